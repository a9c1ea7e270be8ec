// The coverage matrix, and the dialog with the details of a cell.
"use strict";
const STATUS = {
  ok: ["ok", "correct and timed"], incorrect: ["wrong", "its output differs from the reference"], unsupported: ["n/a", "unsupported"],
  out_of_memory: ["OOM", "out of memory"], timeout: ["slow", "timed out"], crash: ["crash", "its worker process died"],
  error: ["error", "raised an error"], interrupted: ["cut", "interrupted"],
};
const MATRIX_ROWS = 150;

function matrix(cells, open) {
  const variants = [...new Set(cells.map((cell) => cell.variant))].sort();
  const rows = new Map();
  for (const cell of cells) {
    const key = [cell.device_name, cell.environment_id, cell.workload, cell.mode].join("/");
    if (!rows.has(key)) rows.set(key, { title: cell.shape.id, device: cell.device_name, by: new Map() });
    rows.get(key).by.set(cell.variant, cell);
  }
  const several = new Set(cells.map((cell) => cell.device_name)).size > 1;
  const head = element("tr", {}, element("th", { scope: "col" }, "workload"), ...variants.map((name) => element("th", { scope: "col" }, name)));
  const body = element("tbody");
  const fill = (count) => {
    for (const row of [...rows.values()].slice(body.children.length, count)) {
      const title = element("th", { scope: "row" }, several ? `${row.device}: ${row.title}` : row.title);
      body.append(element("tr", {}, title, ...variants.map((name) => square(row.by.get(name), open))));
    }
  };
  fill(MATRIX_ROWS);
  const table = element("div", { class: "scroll tall" }, element("table", { class: "matrix" }, element("thead", {}, head), body));
  if (rows.size <= MATRIX_ROWS) return [table];
  const more = element("button", { type: "button", onclick: () => { fill(body.children.length + MATRIX_ROWS); more.hidden = body.children.length >= rows.size; } }, `Show more of ${rows.size} workloads`);
  return [table, more];
}

function square(cell, open) {
  if (!cell) return element("td", {});
  const [text, words] = STATUS[cell.status] || [cell.status, cell.status];
  const label = `${cell.variant} on ${cell.shape.id}: ${words}`;
  return element("td", { class: "status" }, element("button", { type: "button", class: `s-${cell.status}`, title: label, "aria-label": label, onclick: () => open(cell) }, ok(cell) && !cell.exact ? "inexact" : text));
}

function histogram(cell) {
  if (!cell.histogram) return null;
  const [low, high, ...counts] = cell.histogram;
  const most = Math.max(...counts), width = 320, height = 90, step = width / counts.length;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height + 18}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("class", "histogram");
  svg.setAttribute("aria-label", `Histogram of ${cell.samples} samples from ${short(low)} to ${short(high)} ms`);
  const add = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    svg.append(made);
  };
  counts.forEach((count, index) => add("rect", { x: index * step + 0.5, width: step - 1, y: height * (1 - count / most), height: height * count / most }));
  add("text", { x: 0, y: height + 14 }, `${short(low)} ms`);
  add("text", { x: width, y: height + 14, "text-anchor": "end" }, `${short(high)} ms`);
  return svg;
}

function detail(cell, data) {
  const bytes = (value) => value === null || value === undefined ? null : `${short(value / 1048576)} MiB`;
  const facts = {
    status: (STATUS[cell.status] || [0, cell.status])[1], reason: cell.reason, device: `${cell.device_name} (${cell.device})`, run: cell.run,
    latency: ok(cell) ? `${short(cell.latency_ms)} ms (95% interval ${short(cell.latency_low_ms)} to ${short(cell.latency_high_ms)}), ${cell.samples} samples, ${cell.mode}` : null,
    throughput: cell.tflops ? `${short(cell.tflops)} TFLOP/s, ${short(cell.gbps)} GB/s` : null,
    "first call": cell.first_call_ns ? `${short(cell.first_call_ns / 1e6)} ms` : null,
    "peak memory": bytes(cell.peak_bytes), "saved for backward": bytes(cell.saved_bytes),
    error: cell.error_ratio !== null ? `${short(cell.error_ratio)} of the tolerance` : null,
    "stopped by": cell.stopped_by, flags: cell.flags, kernels: cell.kernels, plugin: cell.plugin,
    cell: cell.cell_id,
  };
  const list = element("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, name), element("dd", {}, value));
  }
  const parts = [list];
  const samples = histogram(cell);
  if (samples) parts.push(element("h4", {}, "Raw samples"), samples);
  if (!data.detailed) parts.push(element("p", { class: "note" }, "The report has too many cells to include raw samples, logs and commands: they are in the run's folder."));
  if (cell.log) parts.push(element("h4", {}, "End of the log"), element("pre", {}, cell.log));
  const rerun = cell.rerun || `attnbench explain ${cell.cell_id}`;
  const command = element("pre", { class: "command" }, rerun);
  const copy = element("button", { type: "button", onclick: () => navigator.clipboard?.writeText(rerun).then(() => { copy.textContent = "Copied"; }) }, "Copy");
  parts.push(element("h4", {}, "Run it again"), command, copy);
  return parts;
}

function cellDialog(data) {
  const dialog = document.getElementById("cell");
  dialog.addEventListener("close", () => setState({ cell: null }));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.getElementById("close").addEventListener("click", () => dialog.close());
  return (cell) => {
    dialog.querySelector("h3").textContent = `${cell.variant} on ${cell.shape.id}`;
    dialog.querySelector(".body").replaceChildren(...detail(cell, data));
    if (!dialog.open) dialog.showModal();
  };
}

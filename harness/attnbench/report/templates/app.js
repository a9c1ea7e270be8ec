// Sets up the page: filters, legend, coverage, the table of cells, downloads.
"use strict";
const TABLE_ROWS = 100;
const COLUMNS = [
  ["variant", "variant"], ["workload", "workload"], ["device_name", "device"], ["status", "status"], ["latency_ms", "latency (ms)"],
  ["tflops", "TFLOP/s"], ["peak_bytes", "peak memory (MiB)"], ["speedup", "speed-up"], ["error_ratio", "error / tolerance"],
];

function fillSelect(select, values, chosen, all) {
  if (all) select.append(element("option", { value: "" }, all));
  for (const value of values) select.append(element("option", { value }, value));
  select.value = chosen;
}

function setUpFilters(cells, data) {
  const field = { device: "device_name" };
  for (const name of FILTERS) {
    const select = document.getElementById(`filter-${name}`);
    const values = [...new Set(cells.map((cell) => String(cell[field[name] || name])))].sort();
    fillSelect(select, values, getState(name, ""), "all");
    select.closest("label").hidden = values.length < 2;
    select.addEventListener("change", () => setState({ [name]: select.value }));
    listeners.push(() => { select.value = getState(name, ""); });
  }
  const baseline = document.getElementById("baseline");
  fillSelect(baseline, [...new Set(cells.filter(ranked).map((cell) => cell.variant))].sort(), getState("baseline", data.baseline || ""));
  baseline.addEventListener("change", () => setState({ baseline: baseline.value === data.baseline ? null : baseline.value }));
  listeners.push(() => { baseline.value = getState("baseline", data.baseline || ""); });
}

function setUpLegend(cells, data) {
  const legend = document.getElementById("legend");
  for (const name of [...new Set(cells.filter(ranked).map((cell) => cell.variant))].sort()) {
    const chip = element("button", { type: "button", class: "chip", onclick: () => {
      const names = hidden();
      if (!names.delete(name)) names.add(name);
      setState({ hide: [...names].sort().map(encodeURIComponent).join(",") });
    } }, element("span", { class: "swatch", style: `background:${data.styles[name].colour}` }), name);
    legend.append(chip);
    const show = () => chip.setAttribute("aria-pressed", String(!hidden().has(name)));
    show();
    listeners.push(show);
  }
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const show = () => {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.addEventListener("click", () => setState({ theme: isDark() ? "light" : "dark" }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
  listeners.push(show);
  show();
}

// Opens all folds while the page is printed.
function setUpPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of opened) fold.open = false; });
}

// Hides the static parts that do not match the filters. The settings of these parts are in data attributes.
function showStatic() {
  for (const part of document.querySelectorAll("[data-device]")) {
    part.hidden = FILTERS.some((name) => getState(name) && part.dataset[name] !== undefined && part.dataset[name] !== getState(name));
  }
}

function sortedRows(cells, baseline) {
  const base = new Map(cells.filter((cell) => ranked(cell) && cell.variant === baseline).map((cell) => [problem(cell), cell.latency_ms]));
  const by = getState("sort", ""), sign = getState("order") === "down" ? -1 : 1;
  const rows = cells.map((cell) => ({
    cell, variant: cell.variant, workload: cell.shape.id, device_name: cell.device_name, status: cell.status, latency_ms: cell.latency_ms,
    tflops: cell.tflops, peak_bytes: cell.peak_bytes, error_ratio: cell.error_ratio,
    speedup: ranked(cell) && base.has(problem(cell)) ? base.get(problem(cell)) / cell.latency_ms : null,
  }));
  if (!COLUMNS.some(([name]) => name === by)) return rows.sort((a, b) => (a.status === "unsupported") - (b.status === "unsupported"));
  return rows.sort((a, b) => {
    if (a[by] === null || b[by] === null) return (a[by] === null) - (b[by] === null);
    return sign * (typeof a[by] === "string" ? a[by].localeCompare(b[by], "en", { numeric: true }) : a[by] - b[by]);
  });
}

function cellTable(cells, baseline, open) {
  const rows = sortedRows(cells, baseline), by = getState("sort", ""), down = getState("order") === "down";
  const head = element("tr", {}, ...COLUMNS.map(([name, title]) => element("th", { scope: "col", "aria-sort": by === name ? (down ? "descending" : "ascending") : "none" },
    element("button", { type: "button", "data-sort": name, onclick: () => setState({ sort: name, order: by === name && !down ? "down" : null }) }, title + (by === name ? (down ? " ▼" : " ▲") : "")))));
  const body = element("tbody");
  const fill = (count) => {
    for (const row of rows.slice(body.children.length, count)) {
      body.append(element("tr", {}, ...COLUMNS.map(([name]) => {
        const value = name === "peak_bytes" && row[name] !== null ? row[name] / 1048576 : row[name];
        if (name === "variant") return element("td", {}, element("button", { type: "button", class: "link", onclick: () => open(row.cell) }, value));
        return element("td", typeof value === "number" ? { class: "number" } : {}, typeof value === "number" ? short(value) : value ?? "");
      })));
    }
  };
  fill(TABLE_ROWS);
  const table = element("div", { class: "scroll tall" }, element("table", { class: "cells" }, element("thead", {}, head), body));
  if (rows.length <= TABLE_ROWS) return [table];
  const more = element("button", { type: "button", onclick: () => { fill(body.children.length + 5 * TABLE_ROWS); more.hidden = body.children.length >= rows.length; } }, `Show more of ${rows.length} cells`);
  return [table, more];
}

async function start() {
  const [data, specs] = [await unpack("data"), JSON.parse(document.getElementById("specs").textContent)];
  const cells = cellsOf(data), paint = chartPainter(specs), dialog = cellDialog(data);
  const open = (cell) => setState({ cell: cell.index });
  let last = "";
  setUpTheme();
  setUpPrint();
  setUpFilters(cells, data);
  setUpLegend(cells, data);
  const render = () => {
    const chosen = getState("cell");
    if (chosen !== undefined && cells[chosen]) dialog(cells[chosen]);
    else document.getElementById("cell").close();
    const others = new URLSearchParams(state);
    others.delete("cell");
    const shown = others.toString() + isDark();
    if (shown === last) return;  // only the open cell changed
    last = shown;
    const kept = filtered(cells), baseline = getState("baseline", data.baseline);
    for (const title of document.querySelectorAll(".baseline-name")) title.textContent = baseline || "the baseline";
    showStatic();
    document.getElementById("count").textContent = `${kept.length} of ${cells.length} cells`;
    document.getElementById("coverage").replaceChildren(...matrix(kept, open));
    document.getElementById("cells").replaceChildren(...cellTable(kept, baseline, open));
    paint({ cells: chartRows(kept, baseline), fits: shownFits(data.fits) });
  };
  listeners.push(render);
  const rows = () => filtered(cells).map(plainRow);
  document.getElementById("csv").addEventListener("click", () => download("results.csv", "text/csv", asCsv(rows())));
  document.getElementById("json").addEventListener("click", () => download("results.json", "application/json", JSON.stringify(rows(), null, 1)));
  render();
  document.documentElement.dataset.ready = "1";
}

start().catch((error) => {
  document.getElementById("count").textContent = `The interactive parts of this page can't be shown: ${error.message}`;
  throw error;
});

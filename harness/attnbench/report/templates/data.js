// Unpacks the embedded data into one object for each cell, with its workload's fields.
"use strict";

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function cellsOf(data) {
  const { cells: columns, lists, workloads, settings, contests } = data;
  const names = Object.keys(columns);
  return columns.variant.map((_, index) => {
    const cell = { index };
    for (const name of names) {
      const value = columns[name][index];
      cell[name] = name in lists && value !== null ? lists[name][value] : value;
    }
    cell.shape = workloads[cell.workload];
    cell.place = cell.setting;
    cell.contest = contests[cell.setting];
    cell.setting = settings[cell.setting];
    for (const name of ["direction", "mask", "dtype", "length", "batch"]) cell[name] = cell.shape[name];
    return cell;
  });
}

const ok = (cell) => cell.status === "ok";
const ranked = (cell) => ok(cell) && cell.exact === 1 && !(cell.flags || "").split(", ").includes("unchecked");
const problem = (cell) => [cell.environment_id, cell.device_name, cell.workload, cell.mode].join("/");

// Returns the rows that match the filters; the filter `device` is compared with the device's name.
function filtered(rows) {
  const chosen = FILTERS.filter((name) => getState(name)).map((name) => [name === "device" ? "device_name" : name, getState(name)]);
  return rows.filter((row) => chosen.every(([name, wanted]) => String(row[name]) === wanted));
}

// Returns a chart row for each ranked cell, with derived numbers such as the speed-up over the chosen baseline.
function chartRows(cells, baseline) {
  const base = new Map(), fastest = new Map();
  for (const cell of cells.filter(ranked)) {
    const key = problem(cell);
    if (cell.variant === baseline) base.set(key, cell);
    if (!fastest.has(key) || cell.latency_ms < fastest.get(key)) fastest.set(key, cell.latency_ms);
  }
  const hiddenNames = hidden();
  return cells.filter((cell) => ranked(cell) && !hiddenNames.has(cell.variant)).map((cell) => {
    const reference = base.get(problem(cell));
    return {
      variant: cell.variant, setting: cell.setting, place: cell.place, contest: cell.contest, gpus: cell.shape.gpus, problem: problem(cell), workload: cell.shape.id, device: cell.device_name,
      length: cell.length, latency_ms: cell.latency_ms, latency_low_ms: cell.latency_low_ms, latency_high_ms: cell.latency_high_ms,
      tflops: cell.tflops, roofline_pct: cell.roofline_pct ?? null, energy_mj: cell.energy_mj ?? null,
      peak_bytes: cell.peak_bytes > 0 ? cell.peak_bytes : null,
      error_ratio: cell.error_ratio > 0 ? cell.error_ratio : null,
      relative: cell.latency_ms / fastest.get(problem(cell)),
      speedup: reference ? reference.latency_ms / cell.latency_ms : null,
      // The band spans all ratios of values in the two intervals, so it is never narrower than a paired interval.
      speedup_low: reference ? reference.latency_low_ms / cell.latency_high_ms : null,
      speedup_high: reference ? reference.latency_high_ms / cell.latency_low_ms : null,
    };
  });
}

function shownFits(fits) {
  const hiddenNames = hidden(), shown = (row) => ![row.variant, row.before, row.after].some((name) => hiddenNames.has(name));
  return Object.fromEntries(Object.entries(fits).map(([name, rows]) => [name, filtered(rows).filter(shown)]));
}

const mean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

function grouped(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return [...groups.values()];
}

// Returns a point for each variant and setting: its cost, its latency relative to the fastest variant, and the lowest relative latency at the same or a lower cost.
function tradeoffs(rows, cost, gather) {
  return grouped(rows.filter((row) => row[cost] > 0), (row) => row.setting).flatMap((ofSetting) => {
    const points = grouped(ofSetting, (row) => row.variant).map((ofVariant) => ({
      variant: ofVariant[0].variant, setting: ofVariant[0].setting, place: ofVariant[0].place, shapes: ofVariant.length,
      slower: mean(ofVariant.map((row) => row.relative)), cost: gather(ofVariant.map((row) => row[cost])),
    }));
    return points.map((point) => ({ ...point, best: Math.min(...points.filter((other) => other.cost <= point.cost).map((other) => other.slower)) }));
  });
}

function withRelativeMemory(rows) {
  return grouped(rows.filter((row) => row.peak_bytes), (row) => row.problem).flatMap((ofProblem) => {
    const least = Math.min(...ofProblem.map((row) => row.peak_bytes));
    return ofProblem.map((row) => ({ ...row, relative_memory: row.peak_bytes / least }));
  });
}

// Returns the fastest variant of each device for every shape that was measured on more than one device.
function fastestByDevice(rows) {
  const single = rows.filter((row) => row.tflops && !(row.gpus > 1));
  if (new Set(single.map((row) => row.device)).size < 2) return [];
  const best = grouped(single, (row) => `${row.device}/${row.problem}`)
    .map((candidates) => candidates.reduce((best, other) => other.latency_ms < best.latency_ms ? other : best));
  return grouped(best, (row) => row.contest).filter((sameShape) => new Set(sameShape.map((row) => row.device)).size > 1).flat()
    .map((row) => ({ ...row, setting: row.contest }));
}

function short(value) {
  if (value === null || value === undefined) return "";
  return Math.abs(value) >= 1000 ? Math.round(value).toString() : Number(value.toPrecision(4)).toString();
}

function plainRow(cell) {
  const row = {};
  for (const [name, value] of Object.entries(cell)) {
    if (!["index", "place", "contest", "shape", "histogram", "log", "rerun", "workload"].includes(name)) row[name] = value;
  }
  const { id, ...shape } = cell.shape;
  return { ...row, workload_id: id, ...shape };
}

function download(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function asCsv(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  // An apostrophe keeps a spreadsheet from reading untrusted text as a formula.
  const safe = (value) => typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : value;
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(safe(value));
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(field).join(",")).join("\n") + "\n";
}

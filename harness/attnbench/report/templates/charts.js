// Draws the charts for the current filters. Each chart is drawn when it is scrolled into view.
"use strict";
const drawnCharts = new Map();

function isDark() {
  const theme = getState("theme");
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function chartConfig() {
  const ink = isDark() ? "#e4e7ec" : "#1d2129", faint = isDark() ? "#3a424e" : "#dfe3e8";
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    mark: { invalid: "show" },  // rowsFor removes rows without a value, because a filter in each layer would give the layers separate scales
    axis: { labelColor: ink, titleColor: ink, gridColor: faint, domainColor: ink, tickColor: ink, titleFontWeight: "normal" },
    header: { labelColor: ink }, legend: { labelColor: ink, titleColor: ink },
  };
}

// The charts with a row for each name. The facet with the most names determines the height of a chart.
const NAME_FIELDS = { exponents: "variant", crossovers: "pair" };
const TICK_FIELDS = { reaches: "largest", scalings: "devices" };  // the fields whose values are the ticks, if not the length

const lengthText = (length) => length >= 1024 && length % 1024 === 0 ? `${length / 1024}k` : `${length}`;

// Returns the specification of a chart with the size of the page and the data. Settings with a single length become a dot plot.
function complete(spec, box, rows) {
  const width = box.clientWidth, columns = width < 560 ? 1 : width < 900 ? 2 : 3, name = box.dataset.chart;
  const { usermeta, ...main } = spec, settings = grouped(rows, (row) => row.setting);
  const isSingle = (ofSetting) => usermeta?.dots && new Set(ofSetting.map((row) => row.length)).size === 1;
  const single = settings.filter(isSingle).flat().map((row) => ({ ...row, setting: `${row.setting} · length ${lengthText(row.length)}` }));
  const others = settings.filter((ofSetting) => !isSingle(ofSetting)).flat();
  const sized = (part, shown, names) => {
    const copy = structuredClone(part);
    copy.columns = columns;
    copy.spec.width = Math.max(180, Math.floor(width / columns) - (part === main ? 78 : 150));
    if (names) copy.spec.height = 22 * Math.max(...grouped(shown, (row) => row.setting).map((facet) => new Set(facet.map((row) => row[names])).size));
    return copy;
  };
  const parts = [];
  if (others.length) parts.push(sized(main, others, NAME_FIELDS[name]));
  if (single.length) parts.push(sized(usermeta.dots, single, usermeta.names));
  const ticks = [...new Set(others.map((row) => row[TICK_FIELDS[name] ?? "length"]))].sort((a, b) => a - b);
  return {
    ...(parts.length === 1 ? parts[0] : { vconcat: parts }),
    params: [{ name: "ticks", value: ticks }], datasets: { rows: others, points: single },
  };
}

// Returns the rows that a chart shows; `shown` contains the rows of the cells, and the rows of derived values by chart.
function rowsFor(name, specs, shown) {
  if (name in shown.fits) return shown.fits[name];
  if (name === "devices") return fastestByDevice(shown.cells);
  if (name === "error") return tradeoffs(shown.cells, "error_ratio", (values) => Math.max(...values));
  if (name === "tradeoff") return tradeoffs(withRelativeMemory(shown.cells), "relative_memory", mean);
  const { column } = specs[name].usermeta;
  return shown.cells.filter((row) => row[column] !== null && row[column] !== undefined);
}

// Returns the rows of the first `count` facets, and the number of facets left out.
function limited(rows, count) {
  const places = new Map();
  for (const row of rows) if (!places.has(row.setting)) places.set(row.setting, row.place ?? places.size);
  const names = [...places.keys()].sort((a, b) => places.get(a) - places.get(b));
  const kept = new Set(names.slice(0, count));
  return [rows.filter((row) => kept.has(row.setting)).map((row) => ({ ...row, place: places.get(row.setting) })), names.length - kept.size];
}

async function drawChart(box, specs, rows) {
  const name = box.dataset.chart, figure = box.closest("figure");
  const [shown, left] = limited(rows, Number(box.dataset.facets));
  const more = figure.querySelector(".more");
  more.hidden = left === 0;
  more.firstElementChild.textContent = `${left} further setting${left > 1 ? "s" : ""}: narrow the filters or`;
  drawnCharts.get(box)?.finalize();
  const result = await vegaEmbed(box, complete(specs[name], box, shown), {
    actions: false, renderer: "svg", config: chartConfig(), tooltip: { theme: isDark() ? "dark" : "light" },
    loader: { load: () => Promise.reject(new Error("no network")) },
  });
  drawnCharts.set(box, result);
  const svg = box.querySelector("svg");
  const variants = [...new Set(shown.map((row) => row.variant || row.pair))].join(", ");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: ${variants}, ${shown.length} points. The same numbers are in the tables.`);
  box.dataset.drawn = box.dataset.wanted;
}

function chartPainter(specs) {
  const boxes = [...document.querySelectorAll("[data-chart]")];
  let rows = {}, version = 0, queue = Promise.resolve();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      entry.target.dataset.near = entry.isIntersecting ? "1" : "";
      if (entry.isIntersecting) paint(entry.target);
    }
  }, { rootMargin: "300px" });
  function paint(box) {
    if (box.dataset.drawn === String(version) || box.dataset.wanted === String(version)) return;
    box.dataset.wanted = String(version);
    queue = queue.then(() => drawChart(box, specs, rows[box.dataset.chart])).catch((error) => { box.textContent = `This chart can't be drawn: ${error.message}`; });
  }
  for (const box of boxes) {
    const step = 2 * Number(box.dataset.facets);
    seen.observe(box);
    box.closest("figure").querySelector(".more button").addEventListener("click", () => {
      box.dataset.facets = Number(box.dataset.facets) + step;
      box.dataset.wanted = box.dataset.drawn = "";
      paint(box);
    });
  }
  return (shown) => {
    rows = Object.fromEntries(boxes.map((box) => [box.dataset.chart, rowsFor(box.dataset.chart, specs, shown)]));
    version += 1;
    for (const box of boxes) {
      box.closest("figure").hidden = rows[box.dataset.chart].length === 0;
      if (box.dataset.near) paint(box);
    }
  };
}

// Rows per second as it moves: <figure data-chart> holds a <table> of (second, value) that reads without JavaScript;
// here it is drawn with uPlot, and redrawn when the table changes.
import uPlot from "uplot";

const charts = new Map();

const colour = (name) => {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function data(figure) {
  const cells = [...figure.querySelectorAll("tbody tr")].map((row) => [...row.cells].map((cell) => Number(cell.dataset.value ?? cell.textContent)));
  return [cells.map((row) => row[0]), cells.map((row) => row[1])];
}

function options(figure, width) {
  const [ink, line, accent] = [colour("--ink-3"), colour("--line"), colour("--accent")];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px Geist Mono, monospace" };
  return {
    width,
    height: Number(figure.dataset.chartHeight ?? 140),
    legend: { show: false },
    cursor: { y: false, points: { size: 7, fill: accent } },
    scales: { x: { time: false }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} s`) },
      { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => compact.format(tick)) },
    ],
    series: [{}, { stroke: accent, width: 1.5, points: { show: false } }],
  };
}

function drawChart(figure) {
  const holder = figure.querySelector("[data-chart-holder]");
  const width = holder.clientWidth;
  if (!width) return;
  let chart = charts.get(figure);
  if (!chart || !holder.contains(chart.root)) {
    chart = new uPlot(options(figure, width), data(figure), holder);
    charts.set(figure, chart);
    return;
  }
  if (chart.width !== width) chart.setSize({ width, height: chart.height });
  chart.setData(data(figure));
}

function drawAll() {
  for (const figure of charts.keys()) if (!figure.isConnected) charts.delete(figure);
  document.querySelectorAll("figure[data-chart]").forEach(drawChart);
}

export function startCharts() {
  drawAll();
  document.addEventListener("live:changed", drawAll);
  addEventListener("resize", drawAll);
  document.addEventListener("theme:changed", () => {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    drawAll();
  });
}

// Moves the rocket along its drawn path: smoothly from one update to the next, and by itself where the plan is known
// (data-departed, data-arrives). The geometry is that of templates/ui/flight.html, which draws the same without JavaScript.
const KAPPA = 0.5523;
const TIME = 900;
const shown = new WeakMap();
const moving = new Set();

const lerp = (p, q, t) => [p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t];

// Two quarters of an ellipse as cubic curves, from one planet over the top (or under, on the way back) to the other.
function quarters(from, to, y, height) {
  const [middle, half] = [(from + to) / 2, (to - from) / 2];
  const top = [middle, y - height];
  return [
    [[from, y], [from, y - KAPPA * height], [middle - KAPPA * half, y - height], top],
    [top, [middle + KAPPA * half, y - height], [to, y - KAPPA * height], [to, y]],
  ];
}

// de Casteljau: the point and direction at `fraction`, and the curve flown so far.
export function place(shape, fraction) {
  const both = quarters(...shape);
  const second = fraction >= 0.5;
  const t = second ? fraction * 2 - 1 : fraction * 2;
  const [p0, p1, p2, p3] = both[second ? 1 : 0];
  const a = lerp(p0, p1, t);
  const m = lerp(p1, p2, t);
  const b = lerp(a, m, t);
  const r = lerp(m, lerp(p2, p3, t), t);
  const at = lerp(b, r, t);
  const length = Math.hypot(r[0] - b[0], r[1] - b[1]) || 1;
  const flown = `M${both[0][0]}${second ? `C${both[0].slice(1)}` : ""}C${[a, b, at]}`;
  return { at, dx: (r[0] - b[0]) / length, dy: (r[1] - b[1]) / length, flown };
}

function draw(svg, fraction) {
  const shape = svg.dataset.path.split(" ").map(Number);
  const { at, dx, dy, flown } = place(shape, Math.min(1, Math.max(0, fraction)));
  svg.querySelector("[data-ship]")?.setAttribute("transform", `matrix(${[dx, dy, -dy, dx, at[0], at[1]].map((n) => n.toFixed(3)).join(" ")})`);
  svg.querySelector("[data-trail]")?.setAttribute("d", flown);
  shown.set(svg, fraction);
}

function planned(svg) {
  const [departed, arrives] = [Date.parse(svg.dataset.departed), Date.parse(svg.dataset.arrives)];
  if (!(arrives > departed)) return null;
  return Math.min(0.995, Math.max(0, (Date.now() - departed) / (arrives - departed)));
}

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function glide(svg, from, to) {
  const started = performance.now();
  const frame = (now) => {
    if (!svg.isConnected) return;
    const t = Math.min(1, (now - started) / TIME);
    draw(svg, from + (to - from) * (1 - (1 - t) ** 3));
    if (t < 1) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function look(svg) {
  moving.delete(svg);
  if (planned(svg) !== null) {
    moving.add(svg);
    draw(svg, planned(svg));
    return;
  }
  const [from, to] = [shown.get(svg), Number(svg.dataset.fraction)];
  if (from === undefined || from === to || to < from || still()) {
    shown.set(svg, to);
    return;
  }
  draw(svg, from);
  glide(svg, from, to);
}

export function startFlightPaths() {
  const lookIn = (root) => root.querySelectorAll("svg[data-path][data-ship-flies]").forEach(look);
  lookIn(document);
  document.addEventListener("live:changed", (event) => lookIn(event.detail.element.parentElement ?? document));
  setInterval(() => {
    if (document.hidden) return;
    for (const svg of moving) {
      if (svg.isConnected && planned(svg) !== null) draw(svg, planned(svg));
      else moving.delete(svg);
    }
  }, 120);
}

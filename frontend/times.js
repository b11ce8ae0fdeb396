// Relative times and countdowns tick here; the server sends instants, and absolute words for readers without JavaScript.
const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
];

// "3 s", "4 min 12 s", "2 h 5 min", "6 d 3 h": the two largest units, as webapp/ui.py writes durations.
export function span(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    if (count || parts.length) parts.push(`${count} ${unit}`);
    rest -= count * size;
    if (parts.length === 2) return parts.join(" ");
  }
  parts.push(`${rest} s`);
  return parts.join(" ");
}

const clockWords = (seconds) => {
  const rest = Math.max(0, Math.ceil(seconds));
  const [h, m, s] = [Math.floor(rest / 3600), Math.floor((rest % 3600) / 60), rest % 60];
  return rest >= 86400 ? span(rest) : `${h ? `${h}:` : ""}${String(m).padStart(h ? 2 : 1, "0")}:${String(s).padStart(2, "0")}`;
};

const RULES = {
  "data-ago": (instant, now) => (now - instant < 1500 ? "now" : instant > now ? `in ${span((instant - now) / 1000)}` : `${span((now - instant) / 1000)} ago`),
  "data-since": (instant, now) => span((now - instant) / 1000),
  "data-countdown-to": (instant, now) => (instant - now > -500 ? `T−${clockWords((instant - now) / 1000)}` : `late ${span((now - instant) / 1000)}`),
};

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function tick(root = document) {
  const now = Date.now();
  for (const [attribute, words] of Object.entries(RULES)) {
    for (const element of root.querySelectorAll(`[${attribute}]`)) {
      const instant = Date.parse(element.getAttribute(attribute));
      if (Number.isNaN(instant)) continue;
      set(element, words(instant, now));
      if (attribute === "data-countdown-to") element.classList.toggle("late", instant < now - 1000);
    }
  }
  for (const clock of document.querySelectorAll("[data-clock]")) set(clock, `${new Date(now).toISOString().slice(11, 19)} UTC`);
}

export function startTimes() {
  tick();
  // On the full second, so that all figures on the page change together.
  const loop = () => {
    if (!document.hidden) tick();
    setTimeout(loop, 1000 - (Date.now() % 1000) + 5);
  };
  loop();
  document.addEventListener("visibilitychange", () => tick());
  document.addEventListener("live:changed", (event) => tick(event.detail.element.parentElement ?? document));
}

// A log follows its tail until the reader scrolls up; a button brings them back to it. Search and level filter what is loaded.
const NEAR = 40;
const MOST_LINES = 5000;

const atTail = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;

function follow(log) {
  if (log.dataset.following !== "no") log.scrollTop = log.scrollHeight;
}

function noteScroll(event) {
  const log = event.target;
  if (!(log instanceof Element) || !log.matches("[data-live-log]")) return;
  log.dataset.following = atTail(log) ? "yes" : "no";
  const button = document.querySelector(`[data-log-tail="${log.id}"]`);
  if (button) button.hidden = atTail(log);
}

const ORDER = ["debug", "info", "warning", "error"];

function filter(log) {
  const form = document.querySelector(`[data-log-filter="${log.id}"]`);
  if (!form) return;
  const text = (form.elements.q?.value ?? "").toLowerCase();
  const least = ORDER.indexOf(form.elements.level?.value ?? "debug");
  const step = form.elements.step?.value ?? "";
  for (const line of log.children) {
    const level = ORDER.indexOf(line.dataset.level ?? "info");
    line.hidden =
      level < least || (step && line.dataset.step !== step) || (text && !line.textContent.toLowerCase().includes(text));
  }
}

function filterByForm(event) {
  const form = event.target.closest?.("[data-log-filter]");
  if (!form) return;
  const log = document.getElementById(form.dataset.logFilter);
  if (log) {
    filter(log);
    follow(log);
  }
}

// A flood of lines must not eat the browser's memory: who follows the tail keeps the newest, the rest stays on the server.
function trim(log) {
  if (log.dataset.following === "no") return;
  for (let extra = log.childElementCount - MOST_LINES; extra > 0; extra--) log.firstElementChild.remove();
}

function changed(event) {
  const { element } = event.detail;
  const logs = element.matches?.("[data-live-log]") ? [element] : element.querySelectorAll("[data-live-log]");
  for (const log of logs) {
    trim(log);
    filter(log);
    follow(log);
  }
}

// A link to a line (#L12) that is not in the window: the server knows which window it is in.
function seekLine() {
  const number = /^#L(\d+)$/.exec(location.hash)?.[1];
  const isAbsent = number && document.querySelector("[data-live-log]") && !document.getElementById(`L${number}`);
  if (isAbsent && new URLSearchParams(location.search).get("line") !== number) {
    location.replace(`${location.pathname}?line=${number}#L${number}`);
  }
}

export function startLogs() {
  for (const log of document.querySelectorAll("[data-live-log]")) {
    filter(log);
    const linked = location.hash && log.querySelector(`#${CSS.escape(location.hash.slice(1))}`);
    if (linked) {
      linked.hidden = false;
      log.dataset.following = "no";
      linked.scrollIntoView({ block: "center" });
    } else follow(log);
  }
  seekLine();
  addEventListener("hashchange", seekLine);
  // A choice in a filter takes effect at once: the server chooses from everything, not only from what is loaded.
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-log-reload], [data-auto-submit] select")) event.target.form.requestSubmit();
  });
  document.addEventListener("scroll", noteScroll, { capture: true, passive: true });
  document.addEventListener("input", filterByForm);
  document.addEventListener("live:changed", changed);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-log-tail]");
    const log = button && document.getElementById(button.dataset.logTail);
    if (!log) return;
    log.dataset.following = "yes";
    follow(log);
    button.hidden = true;
  });
}

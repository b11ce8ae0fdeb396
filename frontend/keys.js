// The keyboard: j k move a mark over rows and cards (data-row), Enter opens, a aborts, r runs again, / searches, g goes.
const GO = { b: "/", j: "/jobs", r: "/runs", c: "/connections", s: "/settings" };
let going = 0;

const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
const marked = () => document.querySelector("[data-row][data-marked]");

function mark(row) {
  for (const old of document.querySelectorAll("[data-marked]")) old.removeAttribute("data-marked");
  row.dataset.marked = "";
}

function go(row) {
  if (!row) return;
  mark(row);
  (row.querySelector("a") ?? row).focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

function move(step) {
  const all = rows();
  const here = all.indexOf(marked());
  go(all[Math.max(0, Math.min(all.length - 1, here < 0 ? 0 : here + step))]);
}

// The verb of the marked row, else of the page: the same button that a mouse would press.
function press(verb) {
  const buttons = [marked(), document.querySelector("main")].flatMap((scope) => [...(scope?.querySelectorAll(`[data-key="${verb}"]`) ?? [])]);
  buttons.find((button) => !button.disabled && button.offsetParent !== null)?.click();
}

const ACTIONS = {
  j: () => move(1),
  k: () => move(-1),
  a: () => press("a"),
  r: () => press("r"),
  "/": () => document.querySelector("[data-search]")?.focus(),
  "?": () => openHelp(),
  g: () => (going = Date.now()),
};

function openHelp() {
  document.querySelectorAll("details.menu[open]").forEach((menu) => (menu.open = false));
  document.getElementById("keys").showModal();
}

const typing = (target) => target.closest("input, textarea, select, [contenteditable], dialog[open]");

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target)) event.target.blur();
  if (typing(event.target)) return;
  const goes = Date.now() - going < 1200 && GO[event.key];
  going = 0;
  if (goes) {
    event.preventDefault();
    location.assign(goes);
    return;
  }
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

export function startKeys() {
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys-open]")) openHelp();
  });
  // The mark follows the focus, however the reader moves it.
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest("[data-row]");
    if (row) mark(row);
  });
  // Confirmation without inline handlers: a form or button may carry its question.
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !confirm(question)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }, { capture: true });
}

// The theme goes system -> dark -> light -> system; the choice stays with this browser.
const ORDER = ["system", "dark", "light"];

const current = () => document.documentElement.dataset.theme ?? "system";

function store(theme) {
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // Storage may be forbidden; the choice holds for this page then.
  }
}

function show() {
  for (const word of document.querySelectorAll("[data-theme-word]")) word.textContent = current();
}

export function startTheme() {
  show();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const theme = ORDER[(ORDER.indexOf(current()) + 1) % ORDER.length];
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    store(theme);
    show();
    document.dispatchEvent(new CustomEvent("theme:changed"));
  });
  // Menus close when the reader goes elsewhere.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}

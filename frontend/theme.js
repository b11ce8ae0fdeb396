// Loaded blocking in <head>, before the first paint: the stored choice of theme wins over the system's.
const root = document.documentElement;
try {
  const theme = localStorage.getItem("theme");
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  const density = localStorage.getItem("density");
  if (density === "compact" || density === "wall") root.dataset.density = density;
} catch {
  // Storage may be forbidden by the browser; the system's theme holds then.
}
root.classList.add("js");

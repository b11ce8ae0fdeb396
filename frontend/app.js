// Everything a page needs, wired once. Reading works without this file; it makes pages live.
import htmx from "htmx.org/dist/htmx.esm.js";
import { startBoard } from "./board.js";
import { startCharts } from "./charts.js";
import { startFlightPaths } from "./flightpath.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startLogs } from "./logs.js";
import { keepOpenState } from "./morph.js";
import { startTheme } from "./themes.js";
import { startTimes } from "./times.js";

htmx.registerExtension("keep-open", keepOpenState);

// Unsafe requests of htmx carry the token that forms carry in a hidden field.
document.addEventListener("htmx:config:request", (event) => {
  const { request } = event.detail.ctx;
  if (request.method !== "GET") {
    request.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
  }
});

const start = () => {
  startTheme();
  startTimes();
  startFlightPaths();
  startCharts();
  startLogs();
  startKeys();
  startBoard();
  startLive();
};
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();

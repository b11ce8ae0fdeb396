// The browser's end of the live feed: one websocket to /live for the topics that this page names.
//
// A text message is HTML. Each top-level element of it says what it is for:
//   id="x"                      the element with that id becomes this one (morphed; nothing happens where the page has none)
//   id="x" data-live-into="#c"  as above, and it belongs inside #c: moved or inserted there (data-live-at="start" or "end")
//   data-live-append="#t"       its children are appended to #t, those with an id that exists already left out
//   data-live-remove="x"        the element with that id goes away
//   data-live-refresh           the page is fetched again and morphed: what it shows depends on its own address
// `data-live-since` beside `data-live-topics` is the newest event that the page knows; the server replays what came after it.
// Without it, and after every lost connection, the page is fetched again once the socket is open, and morphed.
import { apply, morphMain } from "./morph.js";

const FIRST_WAIT = 250;
const LONGEST_WAIT = 8000;
const WORDS = { live: "live", connecting: "connecting", reconnecting: "reconnecting…", offline: "signed out" };

let socket = null;
let topics = "";
let wait = FIRST_WAIT;
let timer = 0;
let wasOpen = false;
let held = null;

function show(state) {
  for (const indicator of document.querySelectorAll("[data-live-indicator]")) {
    indicator.dataset.liveState = state;
    indicator.querySelector("[data-live-word]").textContent = WORDS[state];
  }
}

function topicsOfPage() {
  const named = [...document.querySelectorAll("[data-live-topics]")].flatMap((element) =>
    element.dataset.liveTopics.split(",").map((topic) => topic.trim()),
  );
  return [...new Set(named)].filter(Boolean).sort().join(",");
}

const since = () => document.querySelector("[data-live-since]")?.dataset.liveSince;

function address() {
  const url = new URL("/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("topics", topics);
  if (!wasOpen && since()) url.searchParams.set("since", since());
  return url;
}

// Messages that come while the page is being fetched wait for it: they are newer than what it shows.
async function refresh() {
  held = [];
  let fetched = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      location.assign(answer.url);
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    fetched = answer.ok && morphMain(page);
  } catch {
    // The server went away again in between: the socket's close starts the next try.
  }
  const waiting = held ?? [];
  held = null;
  waiting.forEach(apply);
  if (fetched) show("live");
  else socket?.close();
}

// News that only the page's own address can show; many at once cost one fetch, and another one when more came meanwhile.
const CALM = 700;
let asked = false;
let busy = false;

async function refreshSoon() {
  asked = true;
  if (busy) return;
  busy = true;
  while (asked && socket) {
    asked = false;
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, CALM));
  }
  busy = false;
}

function opened() {
  wait = FIRST_WAIT;
  const stale = wasOpen || !since();
  wasOpen = true;
  if (stale) refresh();
  else show("live");
}

function closed(event) {
  if (event.target !== socket) return;
  socket = null;
  if (event.code === 1008) {
    show("offline");
    refreshSession();
    return;
  }
  show("reconnecting");
  // Spread out: a thousand pages that lost the same server must not come back in the same instant.
  timer = setTimeout(connect, wait * (0.6 + Math.random() * 0.8));
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

// The server refused us: either the session has ended (the page leads to the log-in) or the topic has gone (404 says so).
async function refreshSession() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || answer.redirected || answer.status >= 400) location.reload();
}

function connect() {
  clearTimeout(timer);
  if (!topics) return;
  socket = new WebSocket(address());
  socket.onopen = opened;
  socket.onclose = closed;
  socket.onmessage = (event) => (held ? held.push(event.data) : apply(event.data));
}

function retune() {
  const named = topicsOfPage();
  if (named === topics) return;
  topics = named;
  const old = socket;
  socket = null;
  old?.close();
  if (topics) connect();
}

export function startLive() {
  document.addEventListener("live:applied", alarm);
  document.addEventListener("live:changed", retune);
  document.addEventListener("live:changed", alarm);
  document.addEventListener("live:refresh", refreshSoon);
  // A laptop that wakes up, or a tab that comes back, tries at once.
  for (const name of ["online", "focus"]) {
    addEventListener(name, () => {
      if (!socket && topics) connect();
    });
  }
  addEventListener("pagehide", () => {
    const old = socket;
    socket = null;
    old?.close();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) connect();
  });
  topics = topicsOfPage();
  if (topics) connect();
  else for (const indicator of document.querySelectorAll("[data-live-indicator]")) indicator.hidden = true;
  alarm();
}

// Title and icon tell of a RUD in a background tab: an element with data-alarm="rud" on the page raises it.
function alarm() {
  const count = document.querySelectorAll('[data-alarm="rud"]').length;
  const icon = document.querySelector("link[data-icon-rud]");
  const href = count ? icon.dataset.iconRud : icon.dataset.iconOk;
  if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
  const plain = document.title.replace(/^✖ (\d+ )?RUD · /, "");
  document.title = count ? `✖ ${count > 1 ? `${count} ` : ""}RUD · ${plain}` : plain;
}

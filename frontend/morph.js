// Puts incoming HTML into the page without losing focus, selection, scroll or what the reader has opened.
import htmx from "htmx.org/dist/htmx.esm.js";

let morph;

// htmx hands its morphing to extensions only. `open` belongs to the reader, not to the server.
export const keepOpenState = {
  init(api) {
    morph = api.morph;
  },
  htmx_before_morph_attr(element, detail) {
    return !(detail.attrName === "open" && element.matches("details, dialog"));
  },
  htmx_before_morph_node(element, detail) {
    // A log keeps the lines that it has, the page brings only the newest: those that are missing are added. When the two do
    // not touch (a long time offline), the fresh ones take its place: nothing may be missing in between unnoticed.
    if (!element.hasAttribute("data-live-log") || element.id !== detail.newNode.id) return true;
    const missing = unknown(detail.newNode.children);
    if (element.childElementCount && missing.length && missing.length === detail.newNode.childElementCount) return true;
    element.append(...missing);
    return false;
  },
};

function unknown(children) {
  return [...children].filter((child) => !child.id || !document.getElementById(child.id));
}

function replace(old, fresh) {
  const fragment = document.createDocumentFragment();
  fragment.append(fresh);
  morph(old, fragment, false);
}

export const morphMain = (page) => {
  const main = document.getElementById("main");
  const fresh = page.getElementById("main");
  if (!fresh) return false;
  replace(main, document.adoptNode(fresh));
  document.title = page.title;
  settled(main);
  return true;
};

// A card that changes its column slides there: First its old place, Last the new one, then play the difference.
function slide(element, change) {
  const before = element.getBoundingClientRect();
  change();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const after = element.getBoundingClientRect();
  const [x, y] = [before.left - after.left, before.top - after.top];
  if (Math.abs(x) + Math.abs(y) < 2) return;
  element.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
    duration: 320,
    easing: "cubic-bezier(.2,.8,.2,1)",
  });
}

const put = (element, parent, at) => (at === "start" ? parent.prepend(element) : parent.append(element));

function placeById(fresh) {
  const old = document.getElementById(fresh.id);
  const into = fresh.dataset.liveInto && document.querySelector(fresh.dataset.liveInto);
  const at = fresh.dataset.liveAt;
  delete fresh.dataset.liveInto;
  delete fresh.dataset.liveAt;
  fresh.removeAttribute("hx-swap-oob");
  if (old) {
    if (into && old.parentElement !== into) {
      slide(old, () => put(old, into, at));
      trim(into, at);
    }
    const { id } = fresh;
    replace(old, fresh);
    return document.getElementById(id);
  }
  if (!into) return null;
  put(fresh, into, at);
  trim(into, at);
  return fresh;
}

// A list with data-live-most keeps no more than that: what is at its far end makes room.
function trim(list, at) {
  const most = Number(list.dataset.liveMost);
  while (most && list.childElementCount > most) (at === "start" ? list.lastElementChild : list.firstElementChild).remove();
}

function append(fresh) {
  const target = document.querySelector(fresh.dataset.liveAppend);
  if (!target) return null;
  // After a reconnect the same line may come twice: by the page and by the socket.
  const news = unknown(fresh.children);
  target.append(...news);
  return news.length ? target : null;
}

// Every element of one message: by `id`, `data-live-append="#target"`, `data-live-remove="id"` or `data-live-refresh`.
export function apply(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const fresh of [...template.content.children]) {
    if ("liveRefresh" in fresh.dataset) {
      document.dispatchEvent(new CustomEvent("live:refresh"));
      continue;
    }
    if (fresh.dataset.liveRemove) {
      document.getElementById(fresh.dataset.liveRemove)?.remove();
      continue;
    }
    const changed = fresh.dataset.liveAppend ? append(fresh) : fresh.id ? placeById(fresh) : null;
    if (changed) settled(changed);
  }
  document.dispatchEvent(new CustomEvent("live:applied"));
}

// New elements get their htmx behaviour, and the other modules look at what changed.
function settled(element) {
  htmx.process(element);
  document.dispatchEvent(new CustomEvent("live:changed", { detail: { element } }));
}
document.addEventListener("htmx:after:swap", () => {
  document.dispatchEvent(new CustomEvent("live:changed", { detail: { element: document.body } }));
});

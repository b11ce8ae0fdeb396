// A column of the board from which many rockets left at once shows too few of those that are still in it: fetch the page.
function refill() {
  for (const column of document.querySelectorAll(".board .column")) {
    const cards = column.querySelector("[data-live-most]");
    const total = Number(column.querySelector("[data-total]")?.dataset.total);
    if (cards.childElementCount < Math.min(total, Number(cards.dataset.liveMost) / 2)) {
      document.dispatchEvent(new CustomEvent("live:refresh"));
      return;
    }
  }
}

export function startBoard() {
  document.addEventListener("live:applied", refill);
}

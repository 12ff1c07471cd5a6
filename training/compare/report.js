// A click on a heading sorts its table by that column; a second click turns the order round.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const table = heading.closest("table");
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(a.cells[heading.cellIndex], b.cells[heading.cellIndex], down));
    table.tBodies[0].append(...rows);
  });
}

const SECONDS = { s: 1, min: 60, h: 3600 };

// The number that a cell starts with, times in seconds; null where there is none.
function numberOf(text) {
  const found = text.replaceAll(",", "").match(/^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: (s|min|h))?\b/);
  return found ? Number(found[1]) * (SECONDS[found[2]] ?? 1) : null;
}

// Empty cells stay last, whichever way a column is sorted.
function compare(a, b, down) {
  const [x, y] = [a.textContent.trim(), b.textContent.trim()];
  if (!x || !y) return Number(!x) - Number(!y);
  const [m, n] = [numberOf(x), numberOf(y)];
  const order = m !== null && n !== null ? m - n : x.localeCompare(y);
  return down ? -order : order;
}

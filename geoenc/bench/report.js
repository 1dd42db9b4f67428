"use strict";

// Sort: a button in a heading orders the rows of its table; floors stay with the others.
function value(cell) {
  if (!cell) return null;
  if (cell.dataset.value === "") return null;
  const number = Number(cell.dataset.value);
  return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "string" ? a.localeCompare(b) : a - b;
  return typeof a === "number" ? -1 : 1;
}

function sort(heading) {
  const row = heading.parentElement;
  const body = heading.closest("table").tBodies[0];
  const column = [...row.children].indexOf(heading);
  const first = heading.dataset.numeric === "true" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = heading.getAttribute("aria-sort") === first ? other : first;
  for (const one of row.children) one.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...body.rows].map((item) => [value(item.cells[column]), item]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // empty cells last
    return sign * compare(a, b);
  });
  body.append(...rows.map(([, item]) => item));
}

for (const button of document.querySelectorAll("thead button")) {
  const heading = button.parentElement;
  const column = [...heading.parentElement.children].indexOf(heading);
  const cells = [...heading.closest("table").tBodies[0].rows].map((row) => row.cells[column]);
  heading.dataset.numeric = cells.some((cell) => cell && cell.dataset.value);
  if (heading.dataset.numeric === "true") heading.style.textAlign = "right";
  button.addEventListener("click", () => sort(heading));
}

// Filter: what carries a task, split, protocol or row that was not chosen is hidden.
const form = document.getElementById("filters");

function filter() {
  const chosen = Object.fromEntries(new FormData(form));
  const wanted = (chosen.row || "").trim().toLowerCase();
  for (const item of document.querySelectorAll("[data-task],[data-split],[data-protocol]")) {
    const { task, split, protocol, row, kind } = item.dataset;
    const differs = (have, want) => have !== undefined && want && have !== want;
    const floor = kind === "floor"; // floors stand beside every protocol
    const gone = [
      differs(task, chosen.task),
      differs(split, chosen.split),
      !floor && differs(protocol, chosen.protocol),
      !floor && wanted && row !== undefined && !row.includes(wanted),
    ];
    item.toggleAttribute("hidden", gone.some(Boolean)); // of SVG elements, too
  }
}

form.addEventListener("input", filter);
filter();

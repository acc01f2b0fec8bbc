"use strict";
// Sort the class table; an undefined figure goes to the end either way.
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const column = heading.cellIndex;
    const isText = heading.classList.contains("text");
    const before = heading.getAttribute("aria-sort");
    const rising = before === "none" ? isText : before === "descending";
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = heading.closest("table").tBodies[0];
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === "" || right === "") return (left === "") - (right === "");
      const order = isText ? left.localeCompare(right) : left - right;
      return rising ? order : -order;
    });
    body.append(...rows);
  });
}

// A cell of the confusion matrix shows its pictures in the gallery.
const note = document.getElementById("gallery-note");
const showAll = document.getElementById("show-all");
const whole = note ? note.textContent : "";
function showCell(chosen) {
  let shown = 0;
  for (const card of document.querySelectorAll(".gallery li")) {
    card.hidden = chosen !== null && card.dataset.cell !== chosen.dataset.cell;
    if (!card.hidden) shown += 1;
  }
  for (const cell of document.querySelectorAll("button[data-cell]")) {
    cell.setAttribute("aria-pressed", String(cell === chosen));
  }
  showAll.hidden = chosen === null;
  note.textContent = chosen === null
    ? whole
    : `${chosen.dataset.name}: ${shown} of ${chosen.dataset.count} shown.`;
}
for (const cell of document.querySelectorAll("button[data-cell]")) {
  cell.addEventListener("click", () => {
    showCell(cell);
    document.getElementById("mistakes").scrollIntoView();
    showAll.focus({ preventScroll: true });
  });
}
if (showAll) showAll.addEventListener("click", () => showCell(null));

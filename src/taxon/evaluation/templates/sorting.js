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

// Intervals beside the figures of the class table; in print they always are.
const intervals = document.getElementById("intervals");
if (intervals) {
  const show = () => {
    document.getElementById("class-table").classList.toggle("with-intervals", intervals.checked);
  };
  intervals.closest(".toggle").hidden = false;
  intervals.addEventListener("change", show);
  show(); // a browser may keep the box checked on reload
}

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

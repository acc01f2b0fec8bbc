// A cell of the confusion matrix shows its pictures below the matrix.
const panel = document.getElementById("cell");
const cellButtons = [...document.querySelectorAll("button[data-cell]")];

// The address of a picture: in the data, or that of a gallery, which has it already.
function pictureSource(number) {
  const inGallery = document.querySelector(`img[data-picture="${number}"]`);
  return pageData.images[number] ?? inGallery?.src ?? "";
}

function cellCard(name, id, confidence, number) {
  const card = document.createElement("li");
  const image = document.createElement("img");
  image.className = "photo";
  image.src = pictureSource(number);
  image.alt = name;
  const said = document.createElement("p");
  said.textContent = percent(confidence);
  const file = document.createElement("p");
  file.className = "file";
  file.title = file.textContent = id;
  card.append(image, said, file);
  return card;
}

function showCell(chosen) {
  for (const button of cellButtons) {
    button.setAttribute("aria-pressed", String(button === chosen));
  }
  panel.hidden = chosen === null;
  if (chosen === null) return;
  const { cell, count } = chosen.dataset;
  const label = chosen.getAttribute("aria-label"); // NAME: COUNT, show pictures
  const name = label.slice(0, label.lastIndexOf(": "));
  const entries = pageData.cells[cell];
  document.getElementById("cell-title").textContent = name;
  document.getElementById("cell-pictures").replaceChildren(
    ...entries.map(([id, confidence, number]) => cellCard(name, id, confidence, number)),
  );
  document.getElementById("cell-note").textContent =
    `${name}: ${entries.length} of ${count} shown, with the confidence in the answer.`;
  panel.scrollIntoView({ block: "nearest" });
}

// One stop for the Tab key in the whole matrix; arrows move from number to number.
function moveTo(button) {
  for (const other of cellButtons) other.tabIndex = other === button ? 0 : -1;
  button.focus();
}

function neighbour(button, key) {
  const place = (each) => [each.closest("tr").rowIndex, each.closest("td").cellIndex];
  const [row, column] = place(button);
  const along = key === "ArrowLeft" || key === "ArrowRight";
  const forward = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  const ahead = cellButtons
    .map((each) => [each, ...place(each)])
    .filter(([, r, c]) => (along ? r === row : c === column))
    .map(([each, r, c]) => [each, forward * (along ? c - column : r - row)])
    .filter(([, distance]) => distance > 0);
  return ahead.sort((a, b) => a[1] - b[1])[0]?.[0];
}

for (const button of cellButtons) {
  button.tabIndex = button === cellButtons[0] ? 0 : -1;
  button.addEventListener("click", () => {
    moveTo(button);
    showCell(button.getAttribute("aria-pressed") === "true" ? null : button);
  });
  button.addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const next = neighbour(button, event.key);
    if (next) moveTo(next);
  });
}
if (panel) {
  const close = () => {
    const chosen = cellButtons.find((each) => each.getAttribute("aria-pressed") === "true");
    showCell(null);
    chosen?.focus();
  };
  document.getElementById("cell-close").addEventListener("click", close);
  document.getElementById("confusion").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) close();
  });
}

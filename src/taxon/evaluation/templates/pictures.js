// Put the explained picture in the place of the plain one, and back.
const explain = document.getElementById("explain");
if (explain) {
  explain.closest(".toggle").hidden = false;
  explain.addEventListener("change", () => {
    for (const heat of document.querySelectorAll("img.heat")) {
      heat.hidden = !explain.checked;
      const photo = heat.parentElement.querySelector(".photo");
      if (photo) photo.hidden = explain.checked;
    }
    for (const words of document.querySelectorAll(".heat-words")) words.hidden = !explain.checked;
  });
  explain.dispatchEvent(new Event("change")); // a browser may keep the box checked on reload
}

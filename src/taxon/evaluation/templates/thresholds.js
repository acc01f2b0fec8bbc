// Curves of one class, and what a threshold gives; counts are exact at every step.
const slider = document.getElementById("threshold");
if (slider) {
  const chooser = document.getElementById("curve-class");
  const fittedBack = document.getElementById("fitted-back");
  const fittedMark = document.getElementById("fitted-mark");
  const put = (id, text) => { document.getElementById(id).textContent = text; };
  const ratio = (part, whole) => (whole ? part / whole : null);
  let curve = null;

  // From shares (0 to 1 each way) to the coordinates of a drawing.
  function placer(line) {
    const svg = document.getElementById(line).ownerSVGElement;
    const [left, right, top, bottom] = svg.dataset.frame.split(" ").map(Number);
    return ([x, y]) => [left + x * (right - left), bottom - y * (bottom - top)];
  }
  const onRoc = placer("roc-line");
  const onPr = placer("pr-line");
  const rocPoint = (at) => [curve.f[at] / curve.n, curve.h[at] / curve.p];
  const prPoint = (at) => [curve.h[at] / curve.p, curve.h[at] / (curve.h[at] + curve.f[at])];

  function drawLine(id, points, place) {
    const text = points.map((point) => place(point).map((n) => n.toFixed(1)).join(","));
    document.getElementById(id).setAttribute("points", text.join(" "));
  }
  function putDot(id, point, place) {
    const dot = document.getElementById(id);
    dot.style.display = point ? "" : "none";
    if (!point) return;
    const [x, y] = place(point);
    dot.setAttribute("cx", x.toFixed(1));
    dot.setAttribute("cy", y.toFixed(1));
  }

  // Steps rise with the threshold, points of the data fall with it.
  const pointAt = (step) => curve.t.length - 1 - step;

  function explore() {
    const at = pointAt(Number(slider.value));
    const [hits, wrong] = [curve.h[at], curve.f[at]];
    const precision = ratio(hits, hits + wrong);
    const recall = ratio(hits, curve.p);
    const f1 = ratio(2 * hits, hits + wrong + curve.p);
    const threshold = String(Number(curve.t[at].toPrecision(6)));
    const fitted = at === curve.fitted ? " (fitted)" : "";
    put("threshold-value", threshold + fitted);
    put("explore-precision", percent(precision));
    put("explore-recall", percent(recall));
    put("explore-f1", percent(f1));
    put("explore-named", `${hits + wrong} of ${curve.p + curve.n}`);
    put("explore-wrong", String(wrong));
    put("explore-missed", `${curve.p - hits} of ${curve.p}`);
    slider.setAttribute("aria-valuetext",
      `${threshold}${fitted}: precision ${percent(precision)}, recall ${percent(recall)}, ` +
      `F1 ${percent(f1)}, ${hits + wrong} named`);
    putDot("roc-dot", rocPoint(at), onRoc);
    putDot("pr-dot", prPoint(at), onPr);
    fittedBack.hidden = curve.fitted === null || at === curve.fitted;
  }

  function choose() {
    curve = pageData.curves[chooser.value];
    const points = curve.t.map((_, at) => at);
    drawLine("roc-line", [[0, 0], ...points.map(rocPoint)], onRoc);
    const steps = points.flatMap((at) => [
      [at ? curve.h[at - 1] / curve.p : 0, prPoint(at)[1]], prPoint(at),
    ]);
    drawLine("pr-line", steps, onPr);
    slider.max = String(curve.t.length - 1);
    slider.value = String(pointAt(curve.at));
    const fitted = curve.fitted;
    putDot("roc-fitted", fitted === null ? null : rocPoint(fitted), onRoc);
    putDot("pr-fitted", fitted === null ? null : prPoint(fitted), onPr);
    fittedMark.hidden = fitted === null;
    if (fitted !== null) {
      fittedMark.style.setProperty("--place", pointAt(fitted) / Math.max(1, curve.t.length - 1));
      fittedBack.textContent = `Back to the fitted threshold, ${Number(curve.t[fitted].toPrecision(6))}`;
    }
    put("curve-key", chooser.value);
    chooser.closest(".choice").dataset.name = chooser.value;
    put("curve-figures", `AUC ${percent(curve.auc)}, average precision ${percent(curve.ap)}`);
    explore();
  }

  slider.addEventListener("input", explore);
  chooser.addEventListener("change", choose);
  fittedBack.addEventListener("click", () => {
    slider.value = String(pointAt(curve.fitted));
    explore();
    slider.focus();
  });
  chooser.closest(".choice").hidden = false;
  document.getElementById("explorer").hidden = false;
  choose();
}

"""The report in a real browser; skipped where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluation import Case, multiclass, multilabel

from taxon.core.predictions import ImageBatch
from taxon.evaluation import Figure
from taxon.evaluation.explain import Explainer, Heat
from taxon.evaluation.report import DataFacts
from taxon.evaluation.summary import ScopeFigures, SelectiveFigures, SetFigures, SliceFigures

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (apt-get install chromium)"
)
# The lowest contrast (WCAG 2) of any visible text with the first opaque ground behind it. Zeros of
# the matrix are faint on purpose, and what lies over a picture has its colours from there.
CONTRAST = """
() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, alpha = 1] = rgb(getComputedStyle(at).backgroundColor);
      layers.unshift([r, g, b, alpha]);
    }
    return layers.reduce((under, [r, g, b, a]) =>
      [r, g, b].map((c, at) => a * c + (1 - a) * under[at]), [255, 255, 255]);
  };
  const worst = { ratio: 99 };
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || element.closest(".zero, svg, option, .skip")) continue;
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) Object.assign(worst, { ratio, text: element.outerHTML.slice(0, 200) });
  }
  return worst;
}
"""


class Corner:
    """A method whose map is hot in one corner."""

    name, words = "a test", "made up"

    def heat(self, image: ImageBatch, column: int) -> Heat:
        return Heat(np.eye(4, dtype=np.float32)[::-1], "the corner counts")


def full_report(case: Case, folder: Path) -> Path:
    """A report with every block."""

    def figure(value: float) -> Figure:
        return Figure(value=value, ci95=(value - 0.05, value + 0.05))

    names = case.metrics.classes
    shares = np.linspace(0.02, 1, 50)
    metrics = case.metrics.model_copy(
        update={
            "selective": SelectiveFigures(
                curve=tuple((float(s), float(0.3 * s**2), float(1 - 0.8 * s)) for s in shares),
                area=figure(0.1),
                abstain_below=0.4,
                coverage=figure(0.75),
                risk=figure(0.169),
            ),
            "sets": SetFigures(
                method="lac",
                promised=0.9,
                coverage=figure(0.91),
                size=figure(1.4),
                per_class={name: figure(0.8) for name in names},
            ),
            "scope": ScopeFigures(method="nearest", limit=0.4, flagged=figure(0.05)),
            "slices": tuple(
                SliceFigures(
                    column="brightness",
                    value=value,
                    n=60,
                    figures={"top1": figure(0.7), "macro_f1": figure(0.68)},
                    difference=figure(-0.12),
                )
                for value in ("dark (below 60)", "60 and lighter")
            ),
            "about": {"model": "a model", "command": "taxon train data", "versions": {"a": "1"}},
        }
    )
    image = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    case.report(
        folder,
        metrics,
        explainer=Explainer(Corner(), lambda _: image),
        data=DataFacts({"train": 500, "test": case.metrics.n}, 12, ("split as given",)),
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    case = multiclass(n=300, signal=1.5)
    return case, full_report(case, tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    case = multilabel()
    return case, full_report(case, tmp_path_factory.mktemp("tags"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=[*arguments, "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    """Open a report; at the end nothing was loaded, nothing failed, nothing is too wide."""
    pages: list[Any] = []
    failures: list[str] = []
    asked: list[str] = []

    def open_page(path: Path, width: int = 1200, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda message: failures.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    assert failures == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    for page in pages:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()


def test_matrix_shows_the_pictures_of_a_cell(show: Any, classes: tuple[Case, Path]) -> None:
    case, path = classes
    page = show(path)
    assert page.is_hidden("#cell")
    assert case.metrics.confusion is not None
    for row, column in ((0, 1), (2, 2)):
        count = case.metrics.confusion[row][column]
        page.click(f'button[data-cell="{row}-{column}"]')
        assert page.get_attribute(f'button[data-cell="{row}-{column}"]', "aria-pressed") == "true"
        shown = page.query_selector_all("#cell-pictures li")
        assert len(shown) == min(count, 4 if row == column else 6)
        assert f"{len(shown)} of {count} shown" in page.inner_text("#cell-note")
        for card in shown:
            place = case.table.ids.index(card.query_selector(".file").inner_text())
            assert case.targets[place] == row
            assert case.table.probabilities[place].argmax() == column
        assert page.evaluate(
            "[...document.querySelectorAll('#cell-pictures img')].every(i => i.naturalWidth > 0)"
        )
    page.keyboard.press("Escape")
    assert page.is_hidden("#cell")
    assert page.evaluate("document.activeElement.dataset.cell") == "2-2"


def test_matrix_by_keyboard(show: Any, classes: tuple[Case, Path]) -> None:
    page = show(classes[1])
    page.focus('button[data-cell="0-0"]')
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.dataset.cell")
    assert below.endswith("-0") and below != "0-0"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    cell = page.evaluate("document.activeElement.dataset.cell")
    assert cell.startswith("0-") and cell != "0-0"
    assert page.is_visible("#cell")
    # The whole matrix is one stop of the Tab key.
    assert (
        page.evaluate("document.querySelectorAll('button[data-cell][tabindex=\"0\"]').length") == 1
    )


def test_explorer_by_keyboard(show: Any, tags: tuple[Case, Path]) -> None:
    case, path = tags
    page = show(path)
    page.select_option("#curve-class", "tag 1")
    entry = case.metrics.per_class["tag 1"]
    assert page.inner_text("#threshold-value") == "0.5 (fitted)"
    percent = page.inner_text("#explore-recall").replace("\u00a0", " ")
    assert percent == f"{100 * (entry.recall.value or 0):.1f} %"
    page.focus("#threshold")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "PageUp", "Home"):
        before = page.inner_text("#threshold-value")
        page.keyboard.press(key)
        assert page.inner_text("#threshold-value") != before
        threshold = float(page.inner_text("#threshold-value").split()[0])
        named = case.table.probabilities[:, 1] >= np.float32(threshold)
        has = case.targets[:, 1] == 1
        assert page.inner_text("#explore-named") == f"{named.sum()} of {len(named)}"
        assert page.inner_text("#explore-wrong") == str((named & ~has).sum())
        assert page.inner_text("#explore-missed") == f"{(~named & has).sum()} of {has.sum()}"
        precision = page.inner_text("#explore-precision").replace("\u00a0", " ")
        assert precision == f"{100 * (named & has).sum() / named.sum():.1f} %"
        assert "precision" in page.get_attribute("#threshold", "aria-valuetext")
    page.click("#fitted-back")
    assert page.inner_text("#threshold-value") == "0.5 (fitted)"
    dots = [page.get_attribute(f"#roc-{name}", "cx") for name in ("dot", "fitted")]
    assert dots[0] == dots[1]


def test_first_class_is_drawn_as_the_script_draws_it(
    show: Any, tags: tuple[Case, Path], classes: tuple[Case, Path], browser: Any
) -> None:
    for _, path in (tags, classes):
        drawn = []
        for scripts in (True, False):
            context = browser.new_context(java_script_enabled=scripts)
            page = context.new_page()
            page.goto(path.as_uri())
            drawn.append(
                [
                    [float(number) for number in re.split("[ ,]", points)]
                    for line in ("roc-line", "pr-line")
                    if (points := page.get_attribute(f"#{line}", "points"))
                ]
            )
            context.close()
        for by_script, by_server in zip(*drawn, strict=True):
            assert set(by_server) == set(by_script)


def test_class_table_sorts(show: Any, classes: tuple[Case, Path]) -> None:
    case, path = classes
    page = show(path)
    page.click("#class-table .sort:has-text('F1')")
    order = page.eval_on_selector_all("#class-table tbody th", "all => all.map(e => e.innerText)")
    scores = [case.metrics.per_class[name].f1.value for name in order]
    assert scores == sorted(scores, reverse=True)
    page.click("#class-table .sort:has-text('F1')")
    again = page.eval_on_selector_all("#class-table tbody th", "all => all.map(e => e.innerText)")
    assert again == order[::-1]


def test_intervals_of_the_class_table_show_on_request(
    show: Any, classes: tuple[Case, Path]
) -> None:
    page = show(classes[1])
    interval = page.locator("#class-table .interval").first
    assert not interval.is_visible()
    page.check("#intervals")
    assert interval.is_visible() and " to " in interval.text_content()
    assert "Specificity" in page.locator("#class-table thead").text_content()
    page.uncheck("#intervals")
    assert not interval.is_visible()


def test_explanations_are_off_until_asked_for(show: Any, tags: tuple[Case, Path]) -> None:
    page = show(tags[1])
    assert not page.is_visible("#mistakes .heat")
    page.check("#explain")
    first = page.query_selector("#mistakes li:first-child")
    assert first.query_selector(".heat").is_visible()
    assert not first.query_selector(".photo").is_visible()
    assert "the corner counts" in first.inner_text()
    page.uncheck("#explain")
    assert first.query_selector(".photo").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("kind", ["classes", "tags"])
def test_readable_in_every_scheme_and_width(
    show: Any, request: pytest.FixtureRequest, kind: str, width: int, scheme: str
) -> None:
    page = show(request.getfixturevalue(kind)[1], width, color_scheme=scheme)
    page.check("#explain")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_prints(show: Any, classes: tuple[Case, Path]) -> None:
    page = show(classes[1], color_scheme="dark")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    for hidden in ("nav", "#threshold", ".toggle"):
        assert page.is_hidden(hidden)
    assert page.is_visible("#thresholds svg") and page.is_visible("#abstention svg")

"""The charts as files for a paper: SVG that stands alone and, with matplotlib, PNG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from taxon.core.files import atomic_folder, write_text
from taxon.evaluation.confusion import ConfusionView
from taxon.evaluation.drawing import svg, text

SVG = "http://www.w3.org/2000/svg"
FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
ALWAYS = "reliability"  # the chart that every report has
ACCENT, OTHER, INK, QUIET, LINE = "#0f766e", "#7b8b98", "#16202a", "#566573", "#dde2e7"
WITHOUT_PNG = "figures are written as SVG only; for PNG too: pip install 'taxon-vision[figures]'"
# What the page's style sheet says of each class, for a file that has none. Later ones win.
_LOOKS: dict[str, dict[str, str]] = {
    "grid": {"stroke": LINE, "stroke-width": "1"},
    "axis": {"stroke": LINE, "stroke-width": "1"},
    "line": {"fill": "none", "stroke": OTHER, "stroke-width": "2", "stroke-linejoin": "round"},
    "ideal": {"stroke": INK, "stroke-width": "1.25", "stroke-dasharray": "4 4"},
    "border": {"stroke": QUIET, "stroke-width": "1", "stroke-dasharray": "2 3"},
    "bar": {"fill": ACCENT},
    "count": {"fill": OTHER, "opacity": "0.6"},
    "dot": {"fill": OTHER},
    "second": {"stroke": OTHER, "stroke-dasharray": "7 3"},
    "train": {"stroke": OTHER, "stroke-dasharray": "7 3"},
    "validation": {"stroke": ACCENT},
    "faint": {"opacity": "0.35", "stroke-width": "1"},
    "thin": {"stroke-width": "1.25"},
    "hidden": {"opacity": "0"},
    "ring": {"fill": "#ffffff", "stroke": OTHER, "stroke-width": "2"},
    "ink": {"fill": INK},
    "before": {"stroke": INK, "stroke-width": "1.5"},
}


@dataclass(frozen=True)
class Chart:
    """A drawing of the page, and (style, name) of the lines that it does not name itself."""

    drawing: Markup
    legend: tuple[tuple[str, str], ...] = ()


def write_figures(
    folder: Path, charts: Mapping[str, Chart], confusion: ConfusionView | None
) -> list[str]:
    """Write NAME.svg and, where matplotlib is installed, NAME.png for every chart.

    Args:
        folder: made, or replaced where an earlier evaluation wrote it.
        charts: name -> a drawing of the page; one is `reliability`.
        confusion: drawn too, where there is one.

    Returns:
        a plain sentence where PNG were left out.

    Raises:
        OutputError: a file cannot be written.
    """
    drawings = dict(charts)
    if confusion is not None:
        drawings["confusion"] = Chart(confusion_chart(confusion))
    with_png = find_spec("matplotlib") is not None
    # Whole, so that no chart of an earlier evaluation stays among them.
    with atomic_folder(folder, replace_if=f"{ALWAYS}.svg") as fresh:
        for name, chart in drawings.items():
            alone = standalone(chart)
            write_text(fresh / f"{name}.svg", alone)
            if with_png:
                from taxon.evaluation.raster import write_png

                write_png(fresh / f"{name}.png", alone)
    return [] if with_png else [WITHOUT_PNG]


def standalone(chart: Chart) -> str:
    """Return a chart as an SVG file: dark on white, every look an attribute, with its key."""
    ET.register_namespace("", SVG)
    legend = "".join(_legend(chart))
    drawing = str(chart.drawing).replace("</svg>", f"{legend}</svg>")
    root = ET.fromstring(drawing.replace("<svg ", f'<svg xmlns="{SVG}" ', 1))
    _, _, width, height = root.attrib["viewBox"].split()
    if chart.legend:
        height = str(int(height) + 24)
        root.attrib["viewBox"] = f"0 0 {width} {height}"
    root.attrib |= {"width": width, "height": height, "font-family": FONT}
    for element in root.iter():
        kind = element.tag.rpartition("}")[2]
        classes = element.attrib.pop("class", "").split()
        looks: dict[str, str] = {}
        if kind == "text":
            looks = {"fill": QUIET, "font-size": "11.5"}
        for name, look in _LOOKS.items():
            if name in classes:
                looks |= look
        if kind == "circle" and "validation" in classes:
            looks["fill" if "ring" not in classes else "stroke"] = ACCENT
        element.attrib |= {key: value for key, value in looks.items() if key not in element.attrib}
    ground = ET.Element(f"{{{SVG}}}rect", {"width": width, "height": height, "fill": "#ffffff"})
    root.insert(0, ground)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _legend(chart: Chart) -> Iterator[str]:
    """The key below the drawing: a piece of each line, and its name."""
    _, _, _, height = re.findall(r"[\d.]+", chart.drawing.split('"')[1])
    x, y = 44.0, float(height) + 6
    for style, name in chart.legend:
        yield f'<polyline class="line {style}" points="{x},{y} {x + 24},{y}"/>'
        yield text(x + 30, y + 4, name, "start")
        x += 42 + 6.2 * len(name)


def confusion_chart(view: ConfusionView) -> Markup:
    """Draw the confusion matrix: counts, shaded by their share of the row."""
    side, count = 34, len(view.classes)
    longest = max(len(label) for label in view.labels)
    margin = min(190, 24 + round(6.2 * longest))
    left, top = margin + 18, margin
    parts = []
    for place, label in enumerate(view.labels):
        middle = side * (place + 0.5)
        short = label if len(label) <= 28 else f"{label[:26]}…"
        parts.append(text(left - 8, top + middle + 4, short, "end"))
        parts.append(
            f'<g transform="translate({left + middle + 4} {top - 8}) rotate(-90)">'
            f"{text(0, 0, short, 'start')}</g>"
        )
    for row, cells in enumerate(view.rows):
        for column, cell in enumerate(cells):
            x, y = left + side * column, top + side * row
            colour = "15,118,110" if cell.right else "217,83,30"
            strength = 0.1 + 0.55 * cell.share if cell.count else 0.0
            parts.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{side - 2}" height="{side - 2}" rx="3"'
                f' fill="rgb({colour})" fill-opacity="{strength:.3f}"/>'
            )
            if cell.count:
                parts.append(text(x + side / 2, y + side / 2 + 4, str(cell.count), "middle", "ink"))
    extent = side * count
    parts.append(text(left + extent / 2, top + extent + 22, "answer", "middle"))
    parts.append(
        f'<g transform="translate(12 {top + extent / 2}) rotate(-90)">'
        f"{text(0, 0, 'truth', 'middle')}</g>"
    )
    return svg(left + extent + 14, top + extent + 34, "Confusion matrix", parts)

"""SVG -> PNG: draws the few shapes that our charts are made of, with matplotlib.

The charts exist once, as SVG; this is no second set of them, and no general renderer.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from taxon.core.files import atomic_file

DPI = 300
_POINT = 0.75  # a pixel of CSS, of which 96 are an inch
_MOVED = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\) rotate\(-90\)")
_ALIGN = {"start": "left", "middle": "center", "end": "right"}

Place = tuple[float, float]


def write_png(path: Path, drawing: str) -> None:
    """Write a drawing of `taxon.evaluation.figures.standalone` as PNG of 300 dots an inch.

    Raises:
        OutputError: the file cannot be written.
    """
    root = ET.fromstring(drawing.encode("utf-8"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    figure = Figure(figsize=(width / 96, height / 96), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for order, (element, moved) in enumerate(_elements(root, None)):
        _draw(axes, element, moved, order)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _elements(parent: ET.Element, moved: Place | None) -> Iterator[tuple[ET.Element, Place | None]]:
    """Every shape, with where its group was moved to; a moved group is turned upwards."""
    for element in parent:
        found = _MOVED.match(element.get("transform", ""))
        inside = (float(found[1]), float(found[2])) if found else moved
        yield element, inside
        yield from _elements(element, inside)


def _draw(axes: Any, element: ET.Element, moved: Place | None, order: int) -> None:
    kind = element.tag.rpartition("}")[2]
    if kind == "rect":
        corner = (_number(element, "x"), _number(element, "y"))
        size = (_number(element, "width"), _number(element, "height"))
        axes.add_patch(Rectangle(corner, *size, **_filled(element), zorder=order))
    elif kind == "circle" and "cx" in element.attrib:
        centre = (_number(element, "cx"), _number(element, "cy"))
        axes.add_patch(Circle(centre, _number(element, "r"), **_filled(element), zorder=order))
    elif kind == "line":
        ends = [[_number(element, f"{axis}{end}") for end in (1, 2)] for axis in "xy"]
        axes.plot(*ends, **_stroked(element), zorder=order)
    elif kind == "polyline":
        points = [place.split(",") for place in element.attrib["points"].split()]
        across, down = ([float(point[axis]) for point in points] for axis in (0, 1))
        axes.plot(across, down, **_stroked(element), zorder=order)
    elif kind == "text":
        x, y = moved or (_number(element, "x"), _number(element, "y"))
        axes.text(
            x,
            y,
            (element.text or "").replace("$", r"\$"),  # no formula is meant
            size=_number(element, "font-size") * _POINT,
            color=element.get("fill", "black"),
            ha=_ALIGN[element.get("text-anchor", "start")],
            va="baseline",
            rotation=90 if moved else 0,
            rotation_mode="anchor",
            zorder=order,
        )


def _number(element: ET.Element, name: str) -> float:
    return float(element.get(name, 0))


def _filled(element: ET.Element) -> dict[str, Any]:
    fill = _colour(element.get("fill", "black"))
    stroke = element.get("stroke")
    return {
        "facecolor": fill,
        "edgecolor": stroke or "none",
        "linewidth": _number(element, "stroke-width") * _POINT if stroke else 0,
        "alpha": float(element.get("fill-opacity", element.get("opacity", 1))),
    }


def _stroked(element: ET.Element) -> dict[str, Any]:
    width = float(element.get("stroke-width", 1)) * _POINT
    dashes = [float(part) / width * _POINT for part in element.get("stroke-dasharray", "").split()]
    return {
        "color": _colour(element.get("stroke", "black")),
        "linewidth": width,
        "linestyle": (0, dashes) if dashes else "solid",
        "alpha": float(element.get("opacity", 1)),
        "solid_joinstyle": "round",
    }


def _colour(value: str) -> Any:
    """A colour as matplotlib reads it: `rgb(15,118,110)` is a triple of shares."""
    if value.startswith("rgb("):
        return tuple(int(part) / 255 for part in value[4:-1].split(","))
    return value

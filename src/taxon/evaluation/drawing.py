"""What the charts are drawn with: a plot area, a grid, lines and words, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """The plot area in the coordinates of the drawing, and the data range it shows."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)

    def path(self, points: Points) -> str:
        """The `points` of a polyline; followers on the same place of the drawing are left out."""
        places = [place for place, _ in groupby((self.x(x), self.y(y)) for x, y in points)]
        return " ".join(f"{x:g},{y:g}" for x, y in places)


def grid(frame: Frame, ticks: Sequence[float], form: str) -> str:
    """Horizontal lines with their values at the left."""
    return "".join(
        f'<line class="grid" x1="{frame.left}" y1="{frame.y(tick)}"'
        f' x2="{frame.right}" y2="{frame.y(tick)}"/>'
        + text(frame.left - 8, frame.y(tick) + 4, form.format(tick), "end")
        for tick in ticks
    )


def below(frame: Frame, ticks: Sequence[float], form: str) -> str:
    """The values of the horizontal axis."""
    return "".join(
        text(frame.x(tick), frame.bottom + 17, form.format(tick), "middle") for tick in ticks
    )


def axis_names(frame: Frame, x_name: str, y_name: str) -> str:
    """Name both axes, the vertical one along its side."""
    across, down = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    return text(across, frame.bottom + 36, x_name, "middle") + along_side(down, y_name)


def along_side(middle: float, words: str) -> str:
    """Words that run upwards at the left edge."""
    return f'<g transform="translate(12 {middle}) rotate(-90)">{text(0, 0, words, "middle")}</g>'


def polyline(frame: Frame, style: str, points: Points, name: str = "") -> str:
    """A line; `name` is its id in the page, for what a script changes."""
    mark = f' id="{name}"' if name else ""
    return f'<polyline{mark} class="line {style}" points="{frame.path(points)}"/>'


def text(x: float, y: float, words: str, anchor: str, style: str = "") -> str:
    look = f' class="{style}"' if style else ""
    return f'<text{look} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(
    width: int, height: int, label: str, parts: Sequence[str], frame: Frame | None = None
) -> Markup:
    """A drawing. With `frame`, a script can find the plot area in it."""
    # Every text in `parts` went through `escape`; the rest is numbers and fixed words.
    area = ""
    if frame is not None:
        area = f' data-frame="{frame.left} {frame.right} {frame.top} {frame.bottom}"'
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"{area}>'
        f"{''.join(parts)}</svg>"
    )

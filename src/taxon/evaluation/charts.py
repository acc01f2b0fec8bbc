"""Charts as inline SVG: small, sharp in print, and coloured by the page's own style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from taxon.evaluation.drawing import Frame, along_side, below, grid, svg, text
from taxon.metrics import ReliabilityBins

# Below this many answers a bar of the reliability diagram is mostly noise and is drawn faint.
FEW = 10
# From so many epochs on the dots of a curve would run into a band; they then show on hovering only.
CROWDED = 60
_DOTS = 400  # of a line, at most: a report of 10,000 epochs stays small
_NUMBER_WIDTH = 13  # of a stage's number in the drawing


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its CSS class, and a value or None for each epoch."""

    name: str
    style: str
    values: tuple[float | None, ...]


def reliability_diagram(
    bins: ReliabilityBins, *, x_label: str, y_label: str, before: ReliabilityBins | None = None
) -> Markup:
    """Draw how often answers are right against how confident they are.

    Bars on the diagonal mean that the confidence can be taken at its word; below them is the
    number of answers in each bin.

    Args:
        x_label, y_label: what the axes and the notes on bars and rings call the two.
        before: the same without calibration, drawn as rings; bins of few answers are left out.
    """
    frame = Frame(62, 404, 14, 250, (0, 1), (0, 1))
    parts = [grid(frame, (0, 0.25, 0.5, 0.75, 1), "{:.0%}")]
    most = max(int(bins.counts.max()), 1)
    for position, count in enumerate(bins.counts.tolist()):
        if not count:
            continue
        start, end = float(bins.edges[position]), float(bins.edges[position + 1])
        share = float(bins.accuracy[position])
        left, width = frame.x(start) + 1.5, frame.x(end) - frame.x(start) - 3
        title = f"{start:.0%} to {end:.0%}: {count} answers, {y_label} {share:.0%}"
        height = max(1.0, 44 * count / most)
        style = "bar faint" if count < FEW else "bar"
        parts.append(
            f"<g><title>{escape(title)}</title>"
            f'<rect class="{style}" x="{left:.1f}" y="{frame.y(share)}" width="{width:.1f}"'
            f' height="{max(1.5, frame.bottom - frame.y(share)):.1f}" rx="2"/>'
            f'<rect class="count" x="{left:.1f}" y="{328 - height:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}" rx="1"/></g>'
        )
    parts.append(
        f'<line class="ideal" x1="{frame.left}" y1="{frame.bottom}"'
        f' x2="{frame.right}" y2="{frame.top}"/>'
        f'<line class="axis" x1="{frame.left}" y1="328" x2="{frame.right}" y2="328"/>'
    )
    if before is not None:
        parts += _rings(frame, before, x_label, y_label)
    parts.append(below(frame, (0, 0.25, 0.5, 0.75, 1), "{:.0%}"))
    parts.append(text(233, 350, x_label, "middle"))
    parts.append(text(frame.left - 8, 326, "answers", "end"))
    parts.append(along_side((frame.top + frame.bottom) / 2, y_label))
    return svg(428, 360, f"Reliability diagram: {y_label} by {x_label}", parts)


def _rings(frame: Frame, bins: ReliabilityBins, x_label: str, y_label: str) -> list[str]:
    """Where the bins stood before calibration."""
    rings = []
    for confidence, share, count in zip(bins.confidence, bins.accuracy, bins.counts, strict=True):
        if count >= FEW:
            title = (
                f"before calibration: {x_label} {confidence:.0%}, {y_label} {share:.0%}"
                f" ({count} answers)"
            )
            rings.append(
                f'<circle class="dot ring before" cx="{frame.x(float(confidence))}"'
                f' cy="{frame.y(float(share))}" r="4"><title>{escape(title)}</title></circle>'
            )
    return rings


def training_curve(
    title: str,
    series: Sequence[Series],
    borders: Sequence[int],
    *,
    share: bool = False,
    kept: int | None = None,
) -> Markup:
    """Draw values by epoch, with a dashed line where a new stage begins.

    Args:
        series: each with one value (or None) an epoch.
        borders: positions (from 0) of the first epoch of each stage after the first.
        share: the values are shares of 1, shown in per cent over a range of at least 20; else
            they are losses, and the vertical axis starts at 0.
        kept: position (from 0) of the epoch whose weights were kept; marked by a ring.

    Returns:
        The drawing, or an empty string when there is no value to draw.
    """
    values = [value for line in series for value in line.values if value is not None]
    if not values:
        return Markup("")
    epochs = len(series[0].values)
    ticks = _share_ticks(values) if share else _ticks(min(0.0, *values), max(values))
    frame = Frame(54, 404, 26, 200, (0.5, epochs + 0.5), (ticks[0], ticks[-1]))
    parts = [grid(frame, ticks, "{:.0%}" if share else "{:g}"), *_stage_marks(frame, borders)]
    for tick in sorted({1, *range(_epoch_step(epochs), epochs + 1, _epoch_step(epochs))}):
        parts.append(text(frame.x(tick), 217, str(tick), "middle"))
    parts.append(text(229, 236, "epoch", "middle"))
    for line in series:
        parts.extend(_line(frame, line, kept))
    return svg(420, 244, title, parts)


def _stage_marks(frame: Frame, borders: Sequence[int]) -> list[str]:
    """Where stages begin, and their numbers; those of very short ones move aside."""
    parts, free = [], 0.0
    for number, border in enumerate((0, *borders) if borders else (), start=1):
        x = frame.x(border + 0.5)
        if border:
            parts.append(f'<line class="border" x1="{x}" y1="10" x2="{x}" y2="{frame.bottom}"/>')
        place = max(x + 5, free)
        parts.append(text(round(place, 1), 18, str(number), "start"))
        free = place + _NUMBER_WIDTH
    return parts


def _line(frame: Frame, line: Series, kept: int | None) -> list[str]:
    """Draw one series; a missing value leaves a gap."""
    values, count = line.values, len(line.values)
    points = [
        None if value is None else (frame.x(place + 1), frame.y(value))
        for place, value in enumerate(values)
    ]
    style = f"{line.style} thin" if count >= CROWDED else line.style
    parts = [
        f'<polyline class="line {style}" points="{" ".join(f"{x},{y}" for x, y in run)}"/>'
        for run in _runs(points)
        if len(run) > 1
    ]
    every = math.ceil(count / _DOTS)
    for place, (value, point) in enumerate(zip(values, points, strict=True)):
        if value is None or point is None:
            continue
        beside = (*points[max(0, place - 1) : place], *points[place + 1 : place + 2])
        alone = not any(beside)  # no line leads to it
        if place % every and place != kept and not alone:
            continue
        look = "ring" if place == kept else "hidden" if count >= CROWDED and not alone else ""
        title = escape(f"epoch {place + 1}: {line.name} {value:.3f}")
        radius = 4 if place == kept or alone else 2.5
        parts.append(
            f'<circle class="{f"dot {line.style} {look}".strip()}" cx="{point[0]}"'
            f' cy="{point[1]}" r="{radius}"><title>{title}</title></circle>'
        )
    return parts


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Points without a gap between them, together."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return runs


def history_values(history: Sequence[dict[str, Any]], key: str) -> tuple[float | None, ...]:
    """Return one value an epoch; None where the key is missing or not a finite number."""
    found: list[float | None] = []
    for row in history:
        value = row.get(key)
        usable = isinstance(value, int | float) and math.isfinite(value)
        found.append(float(value) if usable and value is not None else None)
    return tuple(found)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Return 3 to 7 round numbers that enclose the range."""
    spread = max(high - low, abs(high) * 0.05, 1e-6)
    power = 10.0 ** math.floor(math.log10(spread / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= spread / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    # round: 3 * 0.1 would be labelled 0.30000000000000004
    return tuple(round(step * position, 10) for position in range(first, last + 1))


def _share_ticks(values: Sequence[float]) -> tuple[float, ...]:
    """Round per cents that enclose the shares, at least 20 apart: no noise as large as a page."""
    middle = (min(values) + max(values)) / 2
    low, high = min(*values, middle - 0.1), max(*values, middle + 0.1)
    shift = max(0.0, -low) - max(0.0, high - 1)  # what lies beyond 0 or 1 goes to the other side
    return _ticks(max(0.0, low + shift), min(1.0, high + shift))


def _epoch_step(epochs: int) -> int:
    """Return a distance between ticks that leaves at most about ten of them."""
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if epochs <= 10 * step)

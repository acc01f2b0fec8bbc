"""The charts: sizes as inline SVG, coloured by the page's own style sheet, and rows of classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from taxon.auditing.report import Sizes
from taxon.core.labels import SEPARATOR, LabelSpace

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 408, 12, 252
_LARGEST_DOT, _DOT_OF_ONE = 13.0, 2.5
_ROUND = (1, 2, 5)


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from `low` to `high` in data, `start` to `end` in the drawing."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[int]:
        """Round numbers within the axis: 1, 2 and 5 times powers of ten, or else its ends."""
        found = [
            number * 10**power
            for power in range(9)
            for number in _ROUND
            if self.low <= number * 10**power <= self.high
        ]
        return found if len(found) > 1 else [math.ceil(self.low), math.floor(self.high)]


def size_chart(sizes: Sizes, input_size: tuple[int, int]) -> Markup:
    """Draw each size that occurs as a dot, its area by the number of pictures; a dashed frame
    marks the model's input."""
    sides = [*input_size, sizes.width.smallest, sizes.width.largest]
    sides += [sizes.height.smallest, sizes.height.largest]
    low, high = max(min(sides) / 1.3, 1.0), max(sides) * 1.3
    horizontal, vertical = _Axis(low, high, _LEFT, _RIGHT), _Axis(low, high, _BOTTOM, _TOP)
    parts = []
    for tick in horizontal.ticks():
        x, y = horizontal.place(tick), vertical.place(tick)
        parts.append(f'<line class="grid" x1="{x}" y1="{_TOP}" x2="{x}" y2="{_BOTTOM}"/>')
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}"/>')
        parts.append(_text(x, _BOTTOM + 17, f"{tick:,}", "middle"))
        parts.append(_text(_LEFT - 8, y + 4, f"{tick:,}", "end"))
    parts.append(f'<line class="ideal" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_TOP}"/>')
    for width, height, count in sizes.most_frequent:
        radius = min(_LARGEST_DOT, _DOT_OF_ONE * math.sqrt(count))
        title = f"{width}x{height}: {count:,} picture{'' if count == 1 else 's'}"
        parts.append(
            f'<circle class="dot" cx="{horizontal.place(width)}" cy="{vertical.place(height)}"'
            f' r="{radius:.1f}"><title>{escape(title)}</title></circle>'
        )
    x, y = horizontal.place(input_size[0]), vertical.place(input_size[1])
    parts.append(f'<path class="input" d="M{_LEFT} {y}H{x}V{_BOTTOM}"/>')
    parts.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 8, "width in pixels", "middle"))
    middle = (_TOP + _BOTTOM) / 2
    parts.append(
        f'<g transform="translate(11 {middle}) rotate(-90)">'
        f"{_text(0, 0, 'height in pixels', 'middle')}</g>"
    )
    # Every text went through `escape`; the rest is numbers and fixed words.
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Sizes of the pictures">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


@dataclass(frozen=True)
class ClassRow:
    """A class with its pictures by part, as shares of the largest class.

    Attributes:
        above: what precedes the short name in the full one, with the last separator; or empty.
        words: the pictures of each part, for those who cannot see the bar.
    """

    name: str
    above: str
    short: str
    total: int
    parts: tuple[tuple[str, int, float], ...]
    words: str


def class_rows(counts: Mapping[str, Mapping[str, int]], short: Mapping[str, str]) -> list[ClassRow]:
    """The classes, the largest first.

    Args:
        counts: class -> part -> pictures.
        short: class -> the end of its name.
    """
    totals = {name: sum(parts.values()) for name, parts in counts.items()}
    most = max([*totals.values(), 1])
    return [
        ClassRow(
            name=name,
            above=name.removesuffix(short.get(name, name)),
            short=short.get(name, name),
            total=totals[name],
            parts=tuple(
                (part, count, round(100 * count / most, 2)) for part, count in counts[name].items()
            ),
            words=", ".join(f"{part} {count:,}" for part, count in counts[name].items()),
        )
        for name in sorted(totals, key=lambda name: (-totals[name], name))
    ]


def short_names(space: LabelSpace) -> dict[str, str]:
    """Class -> its name without as many parents as can go without making two classes alike;
    without a taxonomy the whole name."""
    if not space.parents:
        return {name: name for name in space.names}
    found: dict[str, str] = {}
    depth = 1
    while len(found) < len(space.names):
        ends = {name: _end(name, depth) for name in space.names}
        found |= {name: ends[name] for name in _unlike(ends) if name not in found}
        depth += 1
    return found


def _end(name: str, depth: int) -> str:
    return SEPARATOR.join(name.split(SEPARATOR)[-depth:])


def _unlike(ends: Mapping[str, str]) -> Iterable[str]:
    """Those whose end is no other's, or is the whole name."""
    times = Counter(ends.values())
    return (name for name, end in ends.items() if times[end] == 1 or end == name)

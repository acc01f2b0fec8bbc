"""The plot of a benchmark: a panel for each setting, a bar for each contender."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from taxon.benchmarking.result import Benchmark, Measurement
from taxon.core.text import counted
from taxon.evaluation.drawing import svg, text
from taxon.evaluation.figures import Chart, standalone

_ROW, _HEAD, _GAP = 20, 30, 18
_BARS, _FIGURES = 330, 210  # widths of the bars and of the words behind them
_LETTER = 6.2


def benchmark_chart(benchmark: Benchmark) -> str:
    """Draw the median of each contender as a bar, a thin line up to the 95th percentile.

    Returns:
        An SVG file that needs nothing else; bars of one panel share a scale, panels do not.
    """
    left = 16 + round(
        _LETTER * max((len(_name(each)) for each in benchmark.measurements), default=9)
    )
    parts, y = [text(0, 16, _title(benchmark), "start", "ink")], 24
    for threads in benchmark.threads:
        for batch in benchmark.batches:
            rows = benchmark.measured_with(threads, batch)
            if rows:
                parts += _panel(rows, left, y)
                y += _HEAD + _ROW * len(rows) + _GAP
    drawing = svg(left + _BARS + _FIGURES, y + 4, "Latency and throughput", parts)
    return standalone(Chart(Markup(drawing)))


def _panel(rows: Sequence[Measurement], left: int, top: int) -> list[str]:
    """One setting: its name, and a bar for each contender."""
    longest = max(each.p95_ms for each in rows)
    words = f"batch {rows[0].batch}, {counted(rows[0].threads, 'thread', 'threads')}"
    parts = [text(left, top + 18, f"{words}: milliseconds a call", "start", "ink")]
    for place, each in enumerate(rows):
        y = top + _HEAD + _ROW * place
        middle, end = (round(_BARS * value / longest, 1) for value in (each.p50_ms, each.p95_ms))
        title = f"{_name(each)}: {_words(each)}, 95th percentile {each.p95_ms:.2f} ms"
        parts.append(
            f"<g><title>{escape(title)}</title>"
            f'<rect class="bar" x="{left}" y="{y}" width="{max(1.0, middle)}" height="12" rx="2"/>'
            f'<line class="ideal" x1="{left + middle}" y1="{y + 6}" x2="{left + end}"'
            f' y2="{y + 6}"/></g>'
        )
        parts.append(text(left - 8, y + 10, _name(each), "end"))
        parts.append(text(left + end + 8, y + 10, _words(each), "start"))
    return parts


def _title(benchmark: Benchmark) -> str:
    return f"Median and 95th percentile, {benchmark.machine['processor']}"


def _name(each: Measurement) -> str:
    return f"{each.model} {each.format}"


def _words(each: Measurement) -> str:
    return f"{each.p50_ms:.2f} ms, {each.pictures_per_second:,.0f} pictures/s"

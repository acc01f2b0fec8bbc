"""What `taxon benchmark` shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from taxon.benchmarking import Benchmark, Measurement
from taxon.core.machine import machine_sentence
from taxon.core.text import counted


def show_benchmark(found: Benchmark) -> None:
    """Print a table for each setting, then what is missing and why."""
    console = Console(highlight=False)
    for threads in found.threads:
        for batch in found.batches:
            rows = found.measured_with(threads, batch)
            if rows:
                console.print(f"{counted(threads, 'thread', 'threads')}, batch {batch}")
                console.print(_table(found, rows))
                console.print()
    for each in found.absent:
        size = "" if each.batch is None else f", batch {each.batch}"
        words = f"{each.model} {each.format}{size}: not measured: {each.reason}"
        console.print(words, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    empty = found.interpreter_memory
    beside = f" An empty Python holds {_megabytes(empty)} MB." if empty is not None else ""
    console.print(f"Measured here: {machine_sentence(found.machine)}.{beside}", soft_wrap=True)


def _table(found: Benchmark, rows: Sequence[Measurement]) -> Table:
    """The rows of one setting; columns are as wide as in those of the other settings."""
    table = Table(box=None)
    table.add_column("model", min_width=max(len(each.model) for each in found.measurements))
    table.add_column("format", min_width=max(len(each.format) for each in found.measurements))
    for heading in ("p50 ms", "p95 ms", "pictures/s", "x onnx", "peak MB"):
        table.add_column(heading, justify="right", min_width=len(heading), no_wrap=True)
    peaks = {(each.model, each.format): each.peak_memory for each in found.subjects}
    for each in rows:
        table.add_row(
            each.model,
            each.format,
            f"{each.p50_ms:.2f}",
            f"{each.p95_ms:.2f}",
            f"{each.pictures_per_second:,.0f}",
            "-" if each.ratio is None else f"{each.ratio:.2f}",
            _megabytes(peaks[each.model, each.format].get(each.batch)),
        )
    return table


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.0f}"

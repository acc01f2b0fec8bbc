"""What `taxon export` shows: where artefacts are, whether they are equal, how large and fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from taxon.bundle import ArtefactInfo
from taxon.bundle.artefact import Speed, artefact_folder
from taxon.core.machine import machine_sentence


def show_artefacts(run: Path, written: Sequence[ArtefactInfo], out: Path | None) -> None:
    """Print each artefact with its comparisons, then a table of all."""
    from taxon.exporters import artefact_reports

    for info in written:
        folder = out / info.format if out is not None else artefact_folder(run, info.format)
        typer.echo(f"{info.format}: {folder / info.file}")
        for report in artefact_reports(info):
            typer.echo(f"  {report.sentence()}")
        for note in info.notes:
            typer.echo(f"  {note}")
    if any(info.speed for info in written):
        console = Console(highlight=False)
        console.print(_table(written))
        measured = next(info for info in written if info.speed)
        console.print(f"Measured here: {machine_sentence(measured.machine)}.")


def _table(written: Sequence[ArtefactInfo]) -> Table:
    from taxon.exporters import artefact_reports

    table = Table("format", "size", "batch 1", "batch 8", "changed answers", "macro-F1", box=None)
    for info in written:
        report = artefact_reports(info)[-1]
        changed = f"{report.changed_decisions} of {report.pictures}"
        figure = "-"
        if report.macro_f1 is not None:
            before, after = report.macro_f1["reference"], report.macro_f1["artefact"]
            figure = f"{before:.2%} -> {after:.2%}"
        speeds = {speed.batch: _speed(speed) for speed in info.speed}
        size = f"{info.size / 1e6:.1f} MB"
        table.add_row(info.format, size, speeds.get(1, "-"), speeds.get(8, "-"), changed, figure)
    return table


def _speed(speed: Speed) -> str:
    """Milliseconds, and how they compare with the rival's."""
    return f"{speed.p50_ms:.1f} ms ({speed.ratio:.2f}x {speed.rival})"

"""What `taxon export` shows: where artefacts are, whether they are equal, how large and fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from taxon.bundle import ArtefactInfo
from taxon.bundle.artefact import artefact_folder, artefact_name
from taxon.core.machine import machine_sentence


def show_artefacts(run: Path, written: Sequence[ArtefactInfo], out: Path | None) -> None:
    """Print each artefact with its comparisons, then a table of all."""
    from taxon.exporters import artefact_reports

    for info in written:
        name = artefact_name(info.format, info.frame)
        folder = out / name if out is not None else artefact_folder(run, name)
        typer.echo(f"{info.format}: {folder / info.file}")
        for report in artefact_reports(info):
            typer.echo(f"  {report.sentence()}")
        for note in info.notes:
            typer.echo(f"  {note}")
    if any(info.speed for info in written):
        _show_table(written)


def _show_table(written: Sequence[ArtefactInfo]) -> None:
    """Rows a format; times beside those of the rival that it took turns with."""
    from taxon.exporters import artefact_reports

    headings = ("format", "MB", "ms, 1", "ms, 8", "times", "rival", "changed", "macro-F1")
    rows: list[tuple[str, ...]] = [headings]
    for info in written:
        report = artefact_reports(info)[-1]
        figure = "-"
        if report.macro_f1 is not None:
            before, after = report.macro_f1["reference"], report.macro_f1["artefact"]
            figure = f"{before:.1%} -> {after:.1%}"
        times = [f"{speed.p50_ms:.1f}" for speed in info.speed] or ["-", "-"]
        ratios = ", ".join(f"{speed.ratio:.2f}x" for speed in info.speed) or "-"
        rival = info.speed[0].rival if info.speed else "-"
        changed = f"{report.changed_decisions} of {report.pictures}"
        size = f"{info.size / 1e6:.1f}"
        rows.append((info.format, size, *times, ratios, rival, changed, figure))
    widths = [max(len(row[place]) for row in rows) for place in range(len(headings))]
    typer.echo("")
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    measured = next(info for info in written if info.speed)
    typer.echo(
        "\nms: median milliseconds for 1 and 8 pictures; times: of the rival's, with which it took "
        f"turns.\nMeasured here: {machine_sentence(measured.machine)}."
    )

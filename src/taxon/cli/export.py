"""`taxon export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options


def command(
    run: options.RunArgument,
    to: Annotated[
        str, typer.Option("--to", help="Formats, separated by commas: onnx.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder that gets a sub-folder a format.",
            show_default="RUN/artefacts",
            readable=False,
        ),
    ] = None,
) -> None:
    """Export a model, and prove that the artefact gives the same answers.

    An artefact that does not is moved to rejected/, and the command ends with 3.
    """
    from taxon.api import export
    from taxon.bundle.artefact import artefact_folder
    from taxon.exporters import ParityReport

    for info in export(run, [name.strip() for name in to.split(",") if name.strip()], out=out):
        folder = out / info.format if out is not None else artefact_folder(run, info.format)
        typer.echo(f"{info.format}: {folder / info.file}")
        typer.echo(f"  {ParityReport.model_validate(info.parity).sentence()}")

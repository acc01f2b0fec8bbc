"""`taxon demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[
        Path, typer.Option(help="Folder for the demo's data and models.", readable=False)
    ] = Path("demo"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Few and small pictures, few epochs: a check of the installation in about a "
            "minute, whose figures mean nothing.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo.")
    ] = False,
) -> None:
    """Do all of it on generated pictures, in minutes and with no network.

    Audit, split, three-stage fine-tune of a backbone that is pretrained here, evaluation, ONNX
    export, verification, prediction.
    """
    from rich.console import Console

    from taxon.api.demo import Scene, run_demo
    from taxon.cli.progress import training_display

    console = Console()

    def heading(text: str) -> None:
        console.print(f"\n[bold]{text}[/bold]")

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    run_demo(out, Scene(heading, say, training_display), quick=quick, overwrite=overwrite)

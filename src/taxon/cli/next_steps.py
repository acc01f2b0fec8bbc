"""What a person types after a training."""

from __future__ import annotations

from pathlib import Path

import typer

from taxon.core.processes import follows


def show_next_steps(run: Path, *, quiet: bool, json_log: bool) -> None:
    """Say what comes next."""
    if follows():
        return  # the first of several processes says it
    if quiet:
        typer.echo(run)
    elif not json_log:
        typer.echo(
            f"\nNext:\n  taxon evaluate {run}{_what(run)}\n"
            f"  taxon audit {run}   (labels that the model doubts)\n"
            f"  taxon predict {run} PICTURE...\n  taxon serve {run}"
        )


def _what(run: Path) -> str:
    """What `evaluate` needs to be told where the run has no test part."""
    from taxon.bundle.layout import MANIFEST_FILE
    from taxon.data import read_manifest

    return "" if len(read_manifest(run / MANIFEST_FILE).part("test")) else " TEST_DATA"

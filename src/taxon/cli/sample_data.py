"""`taxon sample-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import completion


def command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="defects|tags|taxonomy",
            help="defects: one class a picture, imbalanced; tags: several a picture; taxonomy: "
            "classes in two levels.",
            show_default=False,
            autocompletion=completion.one_of("defects", "tags", "taxonomy"),
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder to write.", show_default=False, readable=False),
    ],
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing folder.")
    ] = False,
) -> None:
    """Write a generated data set to try things on: about 600 pictures of surfaces."""
    from taxon.api import sample_data

    counts = sample_data(kind, out, seed=seed, overwrite=overwrite)  # type: ignore[arg-type]
    for name, count in counts.items():
        typer.echo(f"{count:5d}  {name}")
    typer.echo(f"\nWritten to {out}. Next:\n  taxon train {out} --weights none")

"""`taxon verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options
from taxon.core.errors import CheckFailed


def command(
    run: options.RunArgument,
    artefact: Annotated[
        Path | None,
        typer.Argument(
            metavar="[ARTEFACT]",
            help="An exported artefact; without it, RUN's own ONNX.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A labelled folder or table to compare on too.", show_default=False),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="<0-1>",
            help="What macro-F1 may lose by fewer bits.",
            show_default="what it was exported with",
        ),
    ] = None,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
) -> None:
    """Compare an artefact with the trained model, on golden pictures and on your own."""
    from taxon.api import verify

    table = options.columns(
        path_column,
        label_column,
        tag_columns,
        split_column,
        group_column,
        weight_column,
        image_root,
        parents,
    )
    reports = verify(run, artefact, data=data, columns=table, max_drop=max_drop)
    for report in reports:
        typer.echo(report.sentence())
        for name, figure in (("top-1", report.top1), ("macro-F1", report.macro_f1)):
            if figure is not None:
                typer.echo(
                    f"  {name}: {figure['reference']:.2%} with {report.reference}, "
                    f"{figure['artefact']:.2%} with {report.artefact}"
                )
    if not all(report.passed for report in reports):
        raise CheckFailed("the artefact is not equal to the model; export it again")

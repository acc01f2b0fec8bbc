"""`taxon evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options


def command(
    run: options.RunArgument,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A labelled folder or table; without it, the model's own test part.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part to score: test, val, calibration, train or all. With DATA, pictures that "
            "the run has seen are left out, unless this is all.",
            show_default="test; with DATA, all that the run has not seen",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for metrics.json and report/.",
            show_default="RUN; with DATA, RUN/evaluations/DATA",
            readable=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier evaluation wrote to --out.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain/--no-explain",
            help="Show in the report what the model looked at, for up to 24 pictures: some "
            "seconds, at most about a minute.",
        ),
    ] = True,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
) -> None:
    """Measure a model: metrics.json and one self-contained HTML report."""
    from rich.console import Console
    from rich.table import Table

    from taxon.api import evaluate
    from taxon.evaluation import summary_rows

    result = evaluate(
        run,
        data,
        split=split,
        out=out,
        overwrite=overwrite,
        explain=explain,
        columns=options.columns(
            path_column,
            label_column,
            tag_columns,
            split_column,
            group_column,
            weight_column,
            image_root,
            parents,
        ),
    )
    table = Table(
        box=None, pad_edge=False, title=f"{result.metrics.n} pictures", title_justify="left"
    )
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for row in summary_rows(result.metrics):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(f"report: {result.report}", highlight=False, markup=False, soft_wrap=True)

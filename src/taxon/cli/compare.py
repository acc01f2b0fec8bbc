"""`taxon compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion, options
from taxon.core.errors import CheckFailed

if TYPE_CHECKING:
    from rich.table import Table

    from taxon.evaluation.comparison import PairedMetrics


def command(
    run_a: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_A",
            help="The model to compare with: a model folder, an exported artefact alone, or "
            "hf:USER/NAME[@REVISION].",
            show_default=False,
        ),
    ],
    run_b: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_B", help="The model that may be better, likewise.", show_default=False
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A labelled folder or table; without it, the test part of both runs.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part to compare on: test, val, calibration, train or all. With DATA, pictures "
            "that a run has seen are left out, unless this is all.",
            show_default="test; with DATA, all that neither has seen",
            autocompletion=completion.one_of("test", "val", "calibration", "train", "all"),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for compare.json, changed.csv and compare.html.",
            show_default="RUN_B/comparisons/RUN_A",
            readable=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier comparison wrote to --out.")
    ] = False,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="End with 3 where B is worse beyond chance.")
    ] = False,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
) -> None:
    """Say whether RUN_B is better than RUN_A: differences with intervals, and what changed."""
    from rich.console import Console

    from taxon.api import compare

    result = compare(
        run_a,
        run_b,
        data,
        split=split,
        out=out,
        overwrite=overwrite,
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
    console = Console()
    console.print(_table(result.metrics))
    for sentence in result.metrics.verdict.sentences:
        console.print(sentence, highlight=False, markup=False)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(f"page: {result.page}", highlight=False, markup=False, soft_wrap=True)
    if fail_if_worse and result.metrics.verdict.outcome == "worse":
        raise CheckFailed(result.metrics.verdict.sentences[0])


def _table(metrics: PairedMetrics) -> Table:
    from rich.table import Table

    from taxon.evaluation.comparison import paired_rows

    table = Table(box=None, pad_edge=False, title=f"{metrics.n} pictures", title_justify="left")
    table.add_column("")
    for heading in ("A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for row in paired_rows(metrics):
        table.add_row(row.name, row.a, row.b, row.difference, row.interval, row.p_value)
    return table

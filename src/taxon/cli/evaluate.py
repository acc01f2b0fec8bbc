"""`taxon evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion, decisions, options
from taxon.core.errors import CheckFailed, ConfigError

if TYPE_CHECKING:
    from taxon.api import Evaluation
    from taxon.training import Event


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
            autocompletion=completion.one_of("test", "val", "calibration", "train", "all"),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for metrics.json and report/.",
            show_default="RUN; of other parts and DATA, below RUN/evaluations",
            readable=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier evaluation wrote to --out.")
    ] = False,
    refit_policy: decisions.RefitPolicy = False,
    target: decisions.Target = None,
    costs: decisions.Costs = None,
    abstain: decisions.Abstain = None,
    coverage: decisions.Coverage = None,
    overrides: decisions.Overrides = None,
    slice_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Score the pictures apart by the values of this column of DATA's table (camera, "
            "site), or by group or split; may be given again. Brightness, sharpness and resolution "
            "are always looked at.",
            show_default=False,
        ),
    ] = None,
    ordered: Annotated[
        str | None,
        typer.Option(
            metavar="low,mid,high",
            help="The classes from the lowest to the highest, for quadratically weighted kappa.",
            show_default="classes that are whole numbers, by these",
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            help="YAML with floors, such as `top1: 0.85` or `per_class.*.recall: {low: 0.7}`, and "
            "ceilings, such as `calibration.ece: {at_most: 0.05}`; exits 3 when one is missed.",
            show_default=False,
        ),
    ] = None,
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
    from taxon.api.evaluation import GatesMissed, evaluate

    columns = options.columns(
        path_column,
        label_column,
        tag_columns,
        split_column,
        group_column,
        weight_column,
        image_root,
        parents,
    )
    changes = decisions.overrides(
        target=target, costs=costs, abstain=abstain, coverage=coverage, more=overrides
    )
    if changes and not refit_policy:
        raise ConfigError(f"{changes[0]} changes the policy of {run}: add {decisions.REFIT}")
    try:
        result = evaluate(
            run,
            data,
            split=split,
            out=out,
            overwrite=overwrite,
            columns=columns,
            ordered=_names(ordered),
            slice_by=slice_by or (),
            gate=gate,
            explain=explain,
            refit=changes if refit_policy else None,
            listener=_tell,
        )
    except GatesMissed as missed:
        _show(missed.evaluation)
        count = sum(not gate.met for gate in missed.evaluation.gates)
        raise CheckFailed(
            f"{count} of {len(missed.evaluation.gates)} gates missed (see above)"
        ) from missed
    _show(result)


def _names(ordered: str | None) -> list[str] | None:
    return None if ordered is None else [name.strip() for name in ordered.split(",")]


def _show(result: Evaluation) -> None:
    """Print the figures, weak slices, notes and gates."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from taxon.evaluation import summary_rows
    from taxon.evaluation.terminal import weak_slice_rows, weak_slice_title

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
    if weak := weak_slice_rows(result.metrics):
        console.print(weak_slice_title(result.metrics), highlight=False)
        slices = Table(box=None, pad_edge=False)
        for name in ("column", "slice"):
            slices.add_column(name, overflow="fold")
        for name in ("pictures", "figure", "difference", "95 % interval"):
            slices.add_column(name, justify="right")
        for cells in weak:
            slices.add_row(*map(Text, cells))  # names are the user's, and no markup
        console.print(slices)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for gate in result.gates:
        word = "met" if gate.met else "missed"
        said = f"gate {word}: {gate.words}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {result.report}", highlight=False, markup=False, soft_wrap=True)


def _tell(event: Event) -> None:
    """Print what the fit of the policy found."""
    if text := getattr(event, "text", None):
        typer.echo(text)

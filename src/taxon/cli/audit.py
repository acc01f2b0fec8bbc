"""`taxon audit`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import completion, options
from taxon.cli.batch_options import AddressOption, Engine, EngineOption, tell
from taxon.core.errors import CheckFailed
from taxon.core.text import counted

if TYPE_CHECKING:
    from taxon.data.plan import Plan


class FailOn(StrEnum):
    """From which severity on the command ends with 3."""

    never = "never"
    error = "error"
    warning = "warning"


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder, table, archive or manifest; or a model folder, whose own data are "
            "then looked at with its backbone.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for audit.html and audit.json.",
            show_default="written nowhere",
            readable=False,
        ),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="YAML file for the plan (drop, regroup, relabel): edit it, then "
            "`taxon split DATA --plan FILE --out manifest.parquet`.",
            show_default="written nowhere",
            readable=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Backbone for label issues, drift and near-duplicates.",
            show_default="chosen for the device",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Its weights: hub, a safetensors file, or none (leaves these checks out).",
            show_default="hub, if it can be reached",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL_OR_PARTS",
            help="In place of the backbone: a trained model, or a folder that `taxon embed` wrote "
            "of the same files. Finds look-alikes that hashes miss.",
            show_default="the backbone's",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="auto, cpu, cuda or mps.",
            autocompletion=completion.one_of("auto", "cpu", "cuda", "mps"),
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the folds and samples.")] = 0,
    fail_on: Annotated[
        FailOn, typer.Option(help="End with 3 when there is a finding this severe.")
    ] = FailOn.never,
    truncated: options.Truncated = "refuse",
    max_pixels: options.MaxPixels = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier audit wrote.")
    ] = False,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = None,
    tag_columns: options.TagColumns = None,
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    weight_column: options.WeightColumn = "weight",
    image_root: options.ImageRoot = None,
    parents: options.Parents = None,
    engine: EngineOption = Engine.local,
    address: AddressOption = None,
) -> None:
    """Look into every picture, and say what is wrong with the data before training starts.

    Unreadable and odd files, copies, near-duplicates, look-alikes, leaks between the parts, class
    balance, label issues, shortcuts, drift. The pictures are never touched.
    """
    from taxon.api import audit
    from taxon.api.inspection import PAGE_FILE
    from taxon.auditing import text_lines
    from taxon.cli.progress import counting_display

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
    with counting_display() as progress:
        report = audit(
            data,
            out=out,
            fix=fix,
            model=model,
            weights=weights,
            features=features,
            engine=engine.value,
            address=address,
            device=device,
            columns=columns,
            seed=seed,
            truncated=options.truncated_policy(truncated),
            max_pixels=max_pixels,
            overwrite=overwrite,
            progress=progress,
            tell=tell,
        )
    for line in text_lines(report):
        typer.echo(line)
    if out is not None:
        typer.echo(f"page: {out / PAGE_FILE}")
    if fix is not None:
        typer.echo(f"plan: {fix} ({_steps(report.plan)}); read and edit it, then:")
        for line in report.next_commands:
            typer.echo(f"  {line}")
    severities = {finding.severity for finding in report.findings}
    wrong = severities & ({"error"} if fail_on is FailOn.error else {"error", "warning"})
    if fail_on is not FailOn.never and wrong:
        raise CheckFailed(f"the audit has findings of severity {' and '.join(sorted(wrong))}")


def _steps(plan: Plan) -> str:
    """`5 steps, 12 proposals to accept`."""
    certain = len(plan.accepted())
    steps = counted(certain, "step", "steps")
    proposals = len(plan) - certain
    waiting = f", {counted(proposals, 'proposal', 'proposals')} to accept or delete"
    return steps + (waiting if proposals else "")

"""`taxon split`."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.cli import options
from taxon.core.text import one_line

if TYPE_CHECKING:
    from taxon.api import Splitting

_MOST_CLASSES = 30
_MOST_SKIPPED = 5


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A folder, table, archive or manifest.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Manifest to write, .parquet or .csv; with --folds a folder.",
            show_default=False,
            readable=False,
        ),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of `taxon audit --fix`, edited: what to drop, regroup and relabel.",
            show_default=False,
        ),
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option(
            help="Older manifest (.parquet) or model folder: its pictures keep their parts.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Make this many splits; each picture is in the test part of exactly one.",
            show_default=False,
        ),
    ] = None,
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Share that picks the best epoch; 0 keeps the last.", show_default="0.15"
        ),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Share for `taxon evaluate`; 0 when the test lives elsewhere.",
            show_default="0.15; with --folds 1/K",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures: same split.")] = 0,
    near_duplicates: Annotated[
        bool,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Keep pictures that look the same in one part.",
        ),
    ] = True,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Ignore the parts that the data bring.")
    ] = False,
    truncated: options.Truncated = "refuse",
    max_pixels: options.MaxPixels = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier split wrote.")
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
    """Divide pictures into train, validation, calibration and test, and write a manifest.

    Stratified; groups, equal files and near-duplicates stay in one part. The pictures are never
    touched. Next: `taxon train MANIFEST`.
    """
    from taxon.api import split
    from taxon.cli.progress import counting_display

    with counting_display() as progress:
        result = split(
            data,
            out=out,
            plan=plan,
            previous=previous,
            folds=folds,
            validation=validation_share,
            test=test_share,
            seed=seed,
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
            near_duplicates=near_duplicates,
            resplit=resplit,
            truncated=options.truncated_policy(truncated),
            max_pixels=max_pixels,
            overwrite=overwrite,
            progress=progress,
        )
    _show(result)


def _show(result: Splitting) -> None:
    _print_table(result)
    for note in result.notes:
        typer.echo(one_line(f"note: {note}"))
    if result.skipped:
        kinds = Counter(row.kind for row in result.skipped)
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        typer.echo(f"skipped: {len(result.skipped)} ({counted})")
        for row in result.skipped[:_MOST_SKIPPED]:
            typer.echo(one_line(f"  {row.id}: {row.reason}"))
        if len(result.skipped) > _MOST_SKIPPED:
            typer.echo(f"  and {len(result.skipped) - _MOST_SKIPPED} more")
    paths = [shlex.quote(str(path)) for path in result.paths]
    more = f", and so on to {paths[-1]}" if len(paths) > 1 else ""
    typer.echo(f"written: {paths[0]}{more}\n\nNext:\n  taxon train {paths[0]}")


def _print_table(result: Splitting) -> None:
    from rich.console import Console
    from rich.table import Table

    counts, sizes = result.counts(), result.sizes()
    what = "pictures in the test part" if len(result.manifests) > 1 else "pictures"
    table = Table(box=None, pad_edge=False)
    table.add_column(what, overflow="fold")
    for part in sizes:
        table.add_column(part, justify="right")
    table.add_row("all", *map(str, sizes.values()))
    total = result.manifests[0].counts()
    shown = sorted(total, key=lambda name: (total[name], name))[:_MOST_CLASSES]
    for name in sorted(shown):
        table.add_row(name, *(str(counts[part][name]) for part in sizes))
    console = Console(markup=False, highlight=False)
    console.print(table)
    if len(total) > len(shown):
        console.print(f"the {len(shown)} smallest of {len(total)} classes")

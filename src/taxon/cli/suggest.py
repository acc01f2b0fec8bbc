"""`taxon suggest`."""

from __future__ import annotations

from typing import Annotated

import typer

from taxon.cli import options
from taxon.cli.picture_lists import (
    Format,
    FormatOption,
    OutOption,
    SourceArgument,
    require_all_read,
    tell,
)
from taxon.core.text import counted

# Those of taxon.similarity, whose import would make every command start later.
METHODS = "clusters, weighted, badge, margin, k-center, typical, random"


def command(
    run: options.ModelArgument,
    source: SourceArgument,
    count: Annotated[int, typer.Option("-n", min=1, help="How many pictures to suggest.")] = 200,
    method: Annotated[str, typer.Option(help=f"How to choose: {METHODS}.")] = "clusters",
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    format_: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Choose what to label next: pictures that the model is unsure of, and that differ.

    Pictures that the run has already are left out, by their content. One that cannot be read is
    named, and the rest go on; the command then ends with 3.
    """
    from taxon.api import picture_lists, suggest
    from taxon.api.suggesting import method_of
    from taxon.cli.progress import counting_display

    files = out or []
    picture_lists.require_outputs(files)
    with counting_display() as progress:
        found = suggest(
            run,
            source,
            count=count,
            method=method_of(method),
            seed=seed,
            tell=tell,
            progress=progress,
        )
    rows = picture_lists.suggestion_rows(found)
    tables = [file for file in files if file.suffix.lower() in picture_lists.TABLES]
    for file in tables:
        picture_lists.write_rows(rows, file)
    if not tables:
        picture_lists.print_rows(rows, format_.value)
    for file in files:
        if file not in tables:
            picture_lists.write_suggestion_sheet(found, file)
    _tell_about(found.labelled, found.near_duplicates, len(rows), found.looked_at)
    for note in found.notes:
        tell(note)
    require_all_read(found.failures, found.looked_at + found.labelled)


def _tell_about(labelled: int, near_duplicates: int, suggested: int, looked_at: int) -> None:
    tell(f"{suggested} of {counted(looked_at, 'new picture', 'new pictures')} suggested")
    if labelled:
        tell(f"{counted(labelled, 'picture', 'pictures')} left out: the run has them already")
    if near_duplicates:
        tell(
            f"{counted(near_duplicates, 'near-duplicate', 'near-duplicates')} left out: one like "
            "each is suggested"
        )

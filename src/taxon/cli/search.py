"""`taxon search`."""

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


def command(
    run: options.ModelArgument,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="The example: a picture.", show_default=False)
    ],
    source: SourceArgument,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A further example of the same; may be repeated. What they have in common counts.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many pictures to find.")] = 20,
    format_: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Find the pictures that are most like an example, by the model's features.

    One that cannot be read is named, and the rest go on; the command then ends with 3.
    """
    from taxon.api import picture_lists, search
    from taxon.cli.progress import counting_display

    files = out or []
    picture_lists.require_outputs(files)
    with counting_display() as progress:
        found = search(
            run, [query, *(like or [])], source, count=count, tell=tell, progress=progress
        )
    rows = picture_lists.search_rows(found)
    tables = [file for file in files if file.suffix.lower() in picture_lists.TABLES]
    for file in tables:
        picture_lists.write_rows(rows, file)
    if not tables:
        picture_lists.print_rows(rows, format_.value)
    for file in files:
        if file not in tables:
            picture_lists.write_search_sheet(found, file)
            tell(f"contact sheet: {file}")
    require_all_read(found.failures, found.searched)

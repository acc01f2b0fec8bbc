"""What `taxon search` and `taxon suggest` have in common: options, and pictures that fail."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taxon.core.errors import CheckFailed
from taxon.core.text import one_line

_NAMED = 20


class Format(StrEnum):
    """How pictures are listed."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"


SourceArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Pictures, folders and glob patterns; or a folder that `taxon embed` wrote.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="How to print; not printed where --out is a table.")
]
OutOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="File to write: .csv or .jsonl, or .html for a contact sheet; may be given twice.",
        show_default="standard output",
        readable=False,
    ),
]


def tell(text: str) -> None:
    """Say something beside the result."""
    typer.echo(one_line(text), err=True)


def require_all_read(failures: Mapping[str, str], pictures: int) -> None:
    """Name pictures that could not be read, and fail if there are any.

    Args:
        pictures: how many could be.

    Raises:
        CheckFailed: some could not.
    """
    for path, reason in list(failures.items())[:_NAMED]:
        tell(f"not read: {path}: {reason}")
    if failures:
        raise CheckFailed(
            f"{len(failures)} of {pictures + len(failures)} pictures could not be read"
        )

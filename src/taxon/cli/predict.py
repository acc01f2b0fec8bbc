"""`taxon predict`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taxon.cli import options
from taxon.core.errors import CheckFailed


class Format(StrEnum):
    """How predictions are written."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


def command(
    run: options.ModelArgument,
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders, glob patterns, or - for a list of files on standard input.",
            show_default=False,
        ),
    ],
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="How to write.", show_default="from --out, else table"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write.", show_default="standard output", readable=False),
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            help="Copy the pictures into one folder a class here; never moves, never overwrites.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to list for each picture.")] = 5,
) -> None:
    """Name the class of pictures. One that cannot be read is reported, and the rest go on."""
    from taxon.api import predict
    from taxon.api.outputs import sort_copies, write_predictions

    chosen = format_ or _format_of(out)
    predictions = list(predict(run, _names(pictures), top=top))
    write_predictions(predictions, chosen.value, out)
    if sort_into is not None:
        count = sort_copies(predictions, sort_into)
        print(f"{count} copies written below {sort_into}", file=sys.stderr)
    failed = sum(prediction.error is not None for prediction in predictions)
    if failed:
        raise CheckFailed(f"{failed} of {len(predictions)} pictures could not be read")


def _names(arguments: list[str]) -> list[str]:
    """Put the names on standard input in place of a dash."""
    names: list[str] = []
    for argument in arguments:
        if argument == "-":
            names.extend(line.rstrip("\r\n") for line in sys.stdin if line.strip())
        else:
            names.append(argument)
    return names


def _format_of(out: Path | None) -> Format:
    suffixes = {".csv": Format.csv, ".jsonl": Format.jsonl, ".parquet": Format.parquet}
    return suffixes.get(out.suffix.lower(), Format.table) if out is not None else Format.table

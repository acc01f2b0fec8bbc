"""`taxon predict`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taxon.batch.urls import is_url
from taxon.cli import options
from taxon.cli.batch_options import (
    SOURCES_HELP,
    AddressOption,
    BaseOption,
    BatchSizeOption,
    Engine,
    EngineOption,
    OverwriteOption,
    PartSizeOption,
    PathColumnOption,
    ProcessesOption,
    counting_pictures,
    say_result,
    tell,
)
from taxon.core.errors import CheckFailed, ConfigError


class Format(StrEnum):
    """How predictions are written."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    parts = "parts"


def command(
    run: options.ModelArgument,
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help=SOURCES_HELP + " - is a list of names on standard input.",
            show_default=False,
        ),
    ],
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="How to write. parts: a folder of Parquet files, for millions of pictures; an "
            "interrupted command goes on.",
            show_default="from --out, else table",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File to write; of parts the folder or URL.",
            show_default="standard output",
        ),
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
    path_column: PathColumnOption = None,
    base: BaseOption = None,
    engine: EngineOption = Engine.local,
    address: AddressOption = None,
    processes: ProcessesOption = None,
    batch_size: BatchSizeOption = None,
    part_size: PartSizeOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Name the class of pictures. One that cannot be read is reported, and the rest go on."""
    chosen = format_ or (Format.parts if engine is Engine.ray else _format_of(out))
    names = _names(pictures)
    if chosen is Format.parts:
        if out is None:
            raise ConfigError("--format parts writes a folder; name it with --out")
        if sort_into is not None:
            raise ConfigError("--sort-into is for the other formats than parts")
        from taxon.api import batch_predict
        from taxon.api.batching import PART_SIZE

        with counting_pictures() as progress:
            result = batch_predict(
                run,
                names,
                out,
                engine=engine.value,
                address=address,
                top=top,
                processes=processes,
                batch_size=batch_size,
                part_size=part_size or PART_SIZE,
                path_column=path_column,
                base=base,
                overwrite=overwrite,
                progress=progress,
                tell=tell,
            )
        say_result(result)
        return
    _require_unset(
        {
            "--engine ray": engine is Engine.ray,
            "--address": address,
            "--processes": processes,
            "--batch-size": batch_size,
            "--part-size": part_size,
            "--overwrite": overwrite,
        }
    )
    if out is not None and is_url(out):
        raise ConfigError("--out may be a URL with --format parts alone; name a file")
    if sort_into is not None and any(is_url(name) or name.endswith(".tar") for name in names):
        raise ConfigError("--sort-into copies files of this machine, not of URLs or shards")
    from taxon.api import predict
    from taxon.api.outputs import sort_copies, write_predictions

    answers = predict(run, names, top=top, path_column=path_column, base=base)
    predictions = list(answers)
    write_predictions(predictions, chosen.value, Path(out) if out is not None else None)
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


def _format_of(out: str | None) -> Format:
    suffixes = {".csv": Format.csv, ".jsonl": Format.jsonl, ".parquet": Format.parquet}
    return suffixes.get(Path(out).suffix.lower(), Format.table) if out is not None else Format.table


def _require_unset(given: Mapping[str, object]) -> None:
    named = [name for name, value in given.items() if value]
    if named:
        raise ConfigError(f"{named[0]} is for --format parts; add it, and --out FOLDER")

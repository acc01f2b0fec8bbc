"""`taxon embed`."""

from __future__ import annotations

from typing import Annotated

import typer

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


def command(
    run: options.ModelArgument,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help=SOURCES_HELP, show_default=False)
    ],
    out: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder or URL to write to.", show_default=False)
    ],
    path_column: PathColumnOption = None,
    base: BaseOption = None,
    engine: EngineOption = Engine.local,
    address: AddressOption = None,
    processes: ProcessesOption = None,
    batch_size: BatchSizeOption = None,
    part_size: PartSizeOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the features of pictures, as Parquet parts: for search, suggestions, or your own use.

    An interrupted command goes on when it is given again.
    """
    from taxon.api import embed
    from taxon.api.batching import PART_SIZE

    with counting_pictures() as progress:
        result = embed(
            run,
            sources,
            out,
            engine=engine.value,
            address=address,
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

"""Options and words of commands that compute many pictures into parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from taxon.core.errors import CheckFailed
from taxon.core.text import counted

if TYPE_CHECKING:
    from taxon.batch.local import Progress
    from taxon.batch.summary import BatchResult

MANY = "Many pictures, in parts"
SOURCES_HELP = (
    "Pictures, folders, glob patterns, tables with a column of paths, tar shards "
    "(shard-{000..123}.tar); paths or URLs."
)


class Engine(StrEnum):
    """What computes."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="local: all cores of this machine. ray: those of a Ray cluster.", rich_help_panel=MANY
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="The Ray cluster: auto or HOST:PORT.",
        rich_help_panel=MANY,
        show_default="RAY_ADDRESS, else one on this machine",
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes of the local engine.",
        rich_help_panel=MANY,
        show_default="one a core",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pictures computed at once.",
        rich_help_panel=MANY,
        show_default="as measured",
    ),
]
PartSizeOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pictures in a file of the output.", rich_help_panel=MANY, show_default="2048"
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the job in the folder; without it the same command goes on with it.",
        rich_help_panel=MANY,
    ),
]
PathColumnOption = Annotated[
    str | None,
    typer.Option(
        help="Column of a table with the pictures' paths.", show_default="path or file_name"
    ),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL that paths in a table count from; a table may name URLs only below it.",
        show_default="the table's own folder",
    ),
]


@contextmanager
def counting_pictures() -> Iterator[Progress | None]:
    """Yield what shows pictures, errors and pace on a terminal; elsewhere nothing is shown."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.completed:,} pictures"),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[errors]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("pictures", total=None, pace="", errors="")
        failed = 0

        def show(done: int, errors: int) -> None:
            nonlocal failed
            failed += errors
            bars.advance(task, done)
            shown = bars.tasks[0]
            pace = shown.completed / shown.elapsed if shown.elapsed else 0.0
            bars.update(
                task,
                pace=f"{pace:,.0f}/s",
                errors=f"{failed:,} could not be read" if failed else "",
            )

        yield show


def say_result(result: BatchResult) -> None:
    """Print what became of a job.

    Raises:
        CheckFailed: pictures could not be read.
    """
    pace = result.pictures_per_second
    how = f"{pace:,.0f} pictures/s" if pace is not None else "nothing was left to compute"
    pictures = counted(result.pictures, "picture", "pictures")
    typer.echo(f"{pictures} in {counted(result.parts, 'part', 'parts')} below {result.out} ({how})")
    if result.errors:
        raise CheckFailed(
            f"{result.errors:,} of {result.pictures:,} pictures could not be read; the column "
            "'error' says why"
        )


def tell(text: str) -> None:
    """Say it beside the output."""
    typer.echo(text, err=True)

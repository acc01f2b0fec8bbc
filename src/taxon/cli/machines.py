"""Options of a training on many machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taxon.core.errors import ConfigError

if TYPE_CHECKING:
    from taxon.scale.training import Job

PANEL = "Many machines"

Engine = Annotated[
    str,
    typer.Option(
        help="What starts the processes that train together: local (this one alone, or torchrun "
        "around it) or ray.",
        rich_help_panel=PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="For ray: processes, each with a GPU where the cluster has as many.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
CpusPerWorker = Annotated[
    int | None,
    typer.Option(help="For ray: cores of each.", rich_help_panel=PANEL, show_default="1"),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="For ray: of a cluster that runs, say auto on one of its machines.",
        rich_help_panel=PANEL,
        show_default="a cluster of this machine's own",
    ),
]
Retries = Annotated[
    int | None,
    typer.Option(
        help="For ray: how often all processes go on from the last checkpoint after one died.",
        rich_help_panel=PANEL,
        show_default="2",
    ),
]


def ray_job(
    engine: str,
    workers: int | None,
    cpus_per_worker: int | None,
    address: str | None,
    retries: int | None,
    device: str | None,
) -> Job | None:
    """Put the options together; None: no job of Ray's.

    Raises:
        ConfigError: an unknown engine, or an option that needs another one.
    """
    given = {
        "--workers": workers,
        "--cpus-per-worker": cpus_per_worker,
        "--address": address,
        "--retries": retries,
    }
    if engine == "local":
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            raise ConfigError(f"{unused[0]} is for Ray; add --engine ray")
        return None
    if engine != "ray":
        raise ConfigError(f"--engine is local or ray, received '{engine}'")
    if workers is None:
        raise ConfigError("--engine ray needs the number of processes: --workers N")
    from taxon.scale.training import Job

    gpus = {"cpu": False, "cuda": True}.get(device or "auto")
    return Job(
        workers,
        1 if cpus_per_worker is None else cpus_per_worker,
        gpus,
        address,
        2 if retries is None else retries,
    )

"""Many pictures: predictions or features of folders, tables and shards, in parts on disk."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from taxon.api.batch_model import open_model
from taxon.api.features import ensure_features
from taxon.batch.compute import Opening, Task
from taxon.batch.job import Job, OpenJob, open_job
from taxon.batch.listing import list_items
from taxon.batch.local import Progress, run_locally
from taxon.batch.lock import locked
from taxon.batch.places import Place
from taxon.batch.summary import BatchResult, finish
from taxon.batch.urls import is_url
from taxon.bundle.hub import local_folder
from taxon.core.cores import available_cores
from taxon.core.errors import ConfigError, Interrupted
from taxon.core.text import counted
from taxon.inference.embedder import FEATURES_FORMAT
from taxon.inference.load import BackendName

Engine = Literal["local", "ray"]
Told = Callable[[str], None]
PART_SIZE = 2048  # pictures in a file of the output
_PIECE_BYTES = 32 << 20  # of prepared pictures that travel together


def batch_predict(
    run: str | Path,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    engine: Engine = "local",
    address: str | None = None,
    top: int = 5,
    backend: BackendName = "auto",
    device: str = "cpu",
    processes: int | None = None,
    batch_size: int | None = None,
    part_size: int = PART_SIZE,
    path_column: str | None = None,
    base: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    tell: Told | None = None,
) -> BatchResult:
    """Predict many pictures into a folder of Parquet parts; the same command again goes on.

    The list of pictures is written down first (`plan.parquet`). Each part is written whole or not
    at all, so that after an interruption no picture is lost and none stands there twice. Both
    engines write the same bytes.

    Args:
        run: a model folder, an artefact's folder, an .onnx file, or `hf:user/name[@revision]`.
        sources: folders, glob patterns, tables with a column of paths, tar shards
            (`shard-{000..123}.tar`) and pictures; paths or URLs that fsspec opens.
        out: a folder or URL; new, or that of the same job.
        engine: `local`: all cores of this machine; `ray`: those of a Ray cluster.
        address: of the cluster; None: the one that RAY_ADDRESS names, else one on this machine.
        top: how many of the most probable classes a row lists.
        backend, device: as in `load`.
        processes: of the local engine; None: one a core, on a GPU one.
        batch_size: pictures computed at once; None: as measured.
        part_size: pictures in a file of the output.
        path_column, base: of tables; see `taxon.batch.listing.list_items`.
        overwrite: replace the job that lies in `out`.
        progress: told the pictures that were done, and how many of them have an error.
        tell: told in words what is found and done.

    Raises:
        BundleError: the model cannot be loaded.
        CheckFailed: it does not give its golden outputs, or something else than where the job was
            begun.
        DataError: the sources cannot be listed, or hold no picture.
        Interrupted: Ctrl-C; what is finished is kept.
        LostProcessError: a computing process was killed; what is finished is kept.
        MissingDependencyError: `ray`, or what a URL needs, is not installed.
        OutputError: `out` holds something else, or cannot be written.
    """
    opening = Opening("predict", local_folder(run), backend=backend, device=device, top=top)
    return _run(
        opening,
        _names(sources),
        str(out),
        _Options(
            engine=engine,
            address=address,
            processes=processes,
            batch_size=batch_size,
            part_size=part_size,
            path_column=path_column,
            base=base,
            overwrite=overwrite,
            progress=progress,
            tell=tell,
        ),
    )


def embed(
    run: str | Path,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    engine: Engine = "local",
    address: str | None = None,
    processes: int | None = None,
    batch_size: int | None = None,
    part_size: int = PART_SIZE,
    path_column: str | None = None,
    base: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    tell: Told | None = None,
) -> BatchResult:
    """Write the features of many pictures into a folder of Parquet parts.

    Columns: `path`; `features`, the pooled features that go into the head, a list of float32 of
    fixed size, null for a picture that could not be read; `error`, why not. A model folder that
    lacks the artefact `onnx-features` gets it first, which needs torch.

    The arguments, the parts, what is raised and going on after an interruption: as in
    `batch_predict`.
    """
    tell = tell or _quiet
    ensure_features(run, tell=tell)
    return _run(
        Opening("embed", local_folder(run, (FEATURES_FORMAT,))),
        _names(sources),
        str(out),
        _Options(
            engine=engine,
            address=address,
            processes=processes,
            batch_size=batch_size,
            part_size=part_size,
            path_column=path_column,
            base=base,
            overwrite=overwrite,
            progress=progress,
            tell=tell,
        ),
    )


def _names(sources: str | Path | Sequence[str | Path]) -> list[str]:
    """Local paths absolute: a job may go on from another folder, and on another machine."""
    given = [sources] if isinstance(sources, str | Path) else sources
    return [_absolute(str(name)) for name in given]


def _absolute(name: str) -> str:
    if not name or is_url(name) or Path(name).is_absolute():
        return name
    if glob.has_magic(name) and not Path(name).exists():
        return str(Path(glob.escape(str(Path.cwd()))) / name)
    return os.path.abspath(name)


def _escaped(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class _Options:
    """What both verbs may be told; see `batch_predict`."""

    engine: Engine
    address: str | None
    processes: int | None
    batch_size: int | None
    part_size: int
    path_column: str | None
    base: str | None
    overwrite: bool
    progress: Progress | None
    tell: Told | None


def _run(opening: Opening, sources: Sequence[str], out: str, options: _Options) -> BatchResult:
    _require_possible(options, opening.top)
    tell, progress = options.tell or _quiet, options.progress or _silent
    base = None if options.base is None else _absolute(options.base)
    place = Place(_absolute(out))
    model = open_model(opening)
    per_picture = model.computer.preparation.picture_bytes
    batch = options.batch_size or model.batch_size()
    wanted = Job(
        verb=opening.verb,
        model=model.identity,
        sources=tuple(map(_escaped, sources)),
        path_column=options.path_column,
        base=None if base is None else _escaped(base),
        top=opening.top,
        part_size=options.part_size,
        piece_size=min(options.part_size, batch * max(1, _PIECE_BYTES // (per_picture * batch))),
        batch_size=batch,
    )
    listed = partial(
        list_items,
        sources,
        path_column=options.path_column,
        base=base,
    )
    with TemporaryDirectory(prefix="taxon-") as scratch, locked(place), _goes_on(place):
        opened = open_job(
            wanted, model.expected, place, listed, Path(scratch), overwrite=options.overwrite
        )
        _tell_of(opened, tell)
        started = time.perf_counter()
        task = model.task(opened.job.batch_size)
        if not opened.open_parts:
            errors: dict[int, int] = {}
        elif options.engine == "ray":
            errors = _on_ray(opened, task, options.address, progress, tell)
        else:
            count = options.processes or _processes(opened, opening.device)
            errors = run_locally(opened, task, model.computer, processes=count, progress=progress)
        seconds = time.perf_counter() - started
        result = finish(opened, errors, seconds, options.engine)
        opened.plan.close()
    return result


def _on_ray(
    opened: OpenJob, task: Task, address: str | None, progress: Progress, tell: Told
) -> dict[int, int]:
    # Imported here: Ray is an extra.
    from taxon.scale.batch import run_on_ray

    return run_on_ray(opened, task, address=address, progress=progress, tell=tell)


def _processes(opened: OpenJob, device: str) -> int:
    """One a core, where there is work for each; a GPU is fed by one."""
    if device != "cpu":
        return 1
    pieces = sum(
        -(-opened.plan.part_length(part) // opened.job.piece_size) for part in opened.open_parts
    )
    return max(1, min(available_cores(), pieces))


def _tell_of(opened: OpenJob, tell: Told) -> None:
    pictures, parts = opened.plan.pictures, opened.plan.parts
    if opened.resumed:
        done = sum(opened.plan.part_length(part) for part in opened.finished)
        tell(f"goes on: {done:,} of {pictures:,} pictures were done before")
    else:
        found = f"{counted(pictures, 'picture', 'pictures')} in {counted(parts, 'part', 'parts')}"
        tell(f"{found}, batches of {opened.job.batch_size}")


def _require_possible(options: _Options, top: int) -> None:
    if options.engine not in get_args(Engine):
        allowed = ", ".join(get_args(Engine))
        raise ConfigError(f"unknown engine '{options.engine}'; allowed: {allowed}")
    for name, value in (
        ("processes", options.processes),
        ("batch size", options.batch_size),
        ("part size", options.part_size),
        ("number of classes", top),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"the {name} must be 1 or more, received {value}")


@contextmanager
def _goes_on(place: Place) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"finished parts are kept in {place.address}; the same command goes on with the rest"
        ) from None


def _silent(_done: int, _errors: int) -> None:
    """Show nothing."""


def _quiet(_text: str) -> None:
    """Say nothing."""

"""The workspace of a run: what it takes to go on after an interruption, locked while in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from taxon.bundle.layout import BUNDLE_FILE, CHECKPOINTS_FOLDER, ENTRIES, MANIFEST_FILE
from taxon.config import TrainConfig
from taxon.core.errors import BundleError, DivergedError, InputError, OutputError
from taxon.core.files import require_free, require_writable, unfinished, write_text
from taxon.data import Columns, Manifest, read_manifest, write_manifest
from taxon.preprocessing import Preprocessing

REQUEST_FILE = "request.json"
PLAN_FILE = "plan.json"
TRACKERS_FILE = "trackers.json"
LOCK_FILE = "lock"
Kind = TypeVar("Kind", bound=BaseModel)


class Request(BaseModel):
    """What the user asked for.

    Attributes:
        data: where the data lie, as an absolute path.
        folder: the working folder, from which relative paths count.
        config: as put together from recipe, file and options.
        command: kept in the bundle's provenance.
        reason: why the backbone is the one that `config` names, in words; empty where the user
            named it or left it open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    folder: Path
    columns: Columns
    config: TrainConfig
    command: str
    reason: str = ""


class Plan(BaseModel):
    """What was chosen before the first step; a run that goes on never chooses anew.

    Attributes:
        config: with what it had left open.
        notes: what was found and chosen, in plain sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrainConfig
    preprocessing: Preprocessing
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """The folder `checkpoints` in a model folder; it is there as long as the run is unfinished.

    Attributes:
        run: the model folder.
    """

    run: Path
    request: Request

    @property
    def checkpoints(self) -> Path:
        """Where the run's state lies."""
        return self.run / CHECKPOINTS_FOLDER

    def save_plan(self, plan: Plan, manifest: Manifest) -> None:
        """Keep what was chosen, and the pictures with their parts."""
        write_manifest(manifest, self.checkpoints / MANIFEST_FILE)
        write_text(self.checkpoints / PLAN_FILE, plan.model_dump_json(indent=2))

    def load_plan(self) -> tuple[Plan, Manifest] | None:
        """What was chosen; None where the run was interrupted before."""
        if not (self.checkpoints / PLAN_FILE).is_file():
            return None
        plan = _read(Plan, self.checkpoints / PLAN_FILE)
        return plan, read_manifest(self.checkpoints / MANIFEST_FILE)

    def unstarted(self) -> bool:
        """Whether nothing would be lost with the workspace."""
        return not any(self.checkpoints.glob("step-*"))


def trackers_file(run: Path) -> Path:
    """Where a run keeps what identifies it in its trackers."""
    return run / CHECKPOINTS_FOLDER / TRACKERS_FILE


def is_unfinished(run: Path) -> bool:
    """Whether a run was interrupted in this folder."""
    return (run / CHECKPOINTS_FOLDER / REQUEST_FILE).is_file()


def require_apart(run: Path, *, data: Path) -> None:
    """Refuse to write a model over the data that it is trained on, or around them.

    Raises:
        OutputError: the data lie in the folder.
    """
    if data.resolve().is_relative_to(run.resolve()):
        raise OutputError(f"the model folder {run} would replace the data in {data}")


def recover(run: Path) -> None:
    """Finish or undo a replacement of the folder that was killed between its steps.

    Where the old folder was moved aside and the new one is not in its place, the old one returns.

    Raises:
        OutputError: a training does that at this moment.
    """
    for aside in unfinished(run, ".old"):
        old = aside / "old"
        if old.is_dir() and run.exists():
            shutil.rmtree(aside, ignore_errors=True)
        elif old.is_dir():
            with _locked(old):
                os.replace(old, run)


@contextmanager
def new_workspace(run: Path, request: Request, *, overwrite: bool) -> Iterator[Workspace]:
    """Make the workspace of a new run.

    A user's error before the first checkpoint leaves nothing behind.

    Raises:
        OutputError: the folder holds something, or another training writes into it.
    """
    recover(run)
    if is_unfinished(run) and not overwrite:
        raise OutputError(
            f"{run} holds a run that was interrupted; continue it with `taxon train --resume "
            f"{run}`, start anew with --overwrite, or choose another --out"
        )
    marker = f"{CHECKPOINTS_FOLDER}/{REQUEST_FILE}" if is_unfinished(run) else BUNDLE_FILE
    if not _is_blank(run):
        require_free(run, replace_if=marker if overwrite else None, ours=ENTRIES.__contains__)
    require_writable(run)
    with _locked(run):
        _sweep(run)
        workspace = Workspace(run, request)
        for old in workspace.checkpoints.iterdir():
            if old.name != LOCK_FILE:
                old.unlink()
        write_text(workspace.checkpoints / REQUEST_FILE, request.model_dump_json(indent=2))
        try:
            yield workspace
        except InputError as error:
            # A run without a good epoch would only diverge again.
            if workspace.unstarted() or isinstance(error, DivergedError):
                _remove(workspace.checkpoints)
            raise


@contextmanager
def old_workspace(run: Path) -> Iterator[Workspace]:
    """Open the workspace of a run that was interrupted.

    Raises:
        BundleError: there is none, or it is damaged.
        OutputError: another training writes into the folder.
    """
    if not is_unfinished(run):
        raise BundleError(f"there is no interrupted run in {run}; `taxon train DATA` starts one")
    with _locked(run):
        _sweep(run)
        yield Workspace(run, _read(Request, run / CHECKPOINTS_FOLDER / REQUEST_FILE))


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when the process dies."""
    folder = run / CHECKPOINTS_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(
            f"another training writes into {run} at this moment; wait for it, stop it, or choose "
            "another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _is_blank(run: Path) -> bool:
    """Whether there is nothing but a lock, which a run that was killed as it began leaves."""
    folder = run / CHECKPOINTS_FOLDER
    return run.is_dir() and all(
        path in (folder, folder / LOCK_FILE)
        or (path.parent == folder and path.name.startswith("."))  # half a request
        for path in run.rglob("*")
    )


def _sweep(run: Path) -> None:
    """Remove what a killed training left beside its folder, which is locked."""
    for folder in unfinished(run, ".tmp") + unfinished(run, ".old"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a workspace, and the run's folder where it is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"{path} is damaged ({reason}); start anew with `taxon train DATA --out RUN "
            "--overwrite`"
        ) from error

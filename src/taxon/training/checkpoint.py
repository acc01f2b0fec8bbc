"""Checkpoints: the whole state of a run in one file, written at once or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from taxon.core.errors import OutputError
from taxon.core.files import atomic_file

State = dict[str, torch.Tensor]
KEPT = 2
_PROGRESS = "progress"
# What reading a file that was cut short or altered raises.
_DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError)


@dataclass
class Progress:
    """Where a run stands; all that is no tensor.

    Attributes:
        stage: position of the stage that runs, from 0.
        epochs: finished epochs of that stage.
        steps: finished steps of its next epoch.
        total_steps: finished steps of the whole run.
        loss_sum, seen: of the unfinished epoch: summed loss and pictures.
        history: rows of the finished epochs.
        best_score: None where no epoch was scored.
        best_epoch: counted from 1 over all stages; 0 before the first.
        waiting: epochs of this stage since its score was best.
        parts: in which a step's pictures go through the model.
    """

    stage: int = 0
    epochs: int = 0
    steps: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int = 0
    waiting: int = 0
    parts: int = 1


class Checkpoints:
    """The files of a run's state in a folder; the last two are kept.

    The best epoch's weights change rarely, and lie in a file of their own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, progress: Progress, state: State) -> None:
        """Write a checkpoint, then remove all but the last two.

        Raises:
            OutputError: it cannot be written (a full disk); the ones before are intact.
        """
        name = f"step-{progress.total_steps:09d}-{len(progress.history):05d}.safetensors"
        _write(self.folder / name, state, {_PROGRESS: json.dumps(asdict(progress))})
        files = self._files()
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)
        needed = {_best_file(epoch) for epoch in map(_best_epoch, files[-KEPT:])}
        for best in self.folder.glob("best-*.safetensors"):
            if best.name not in needed:
                best.unlink(missing_ok=True)

    def save_best(self, epoch: int, state: State) -> None:
        """Write the weights of the best epoch so far; before the checkpoint that names them."""
        _write(self.folder / _best_file(epoch), state, {})

    def load(self) -> tuple[Progress, State, State] | None:
        """Return the last checkpoint that can be read: progress, state, and the best weights.

        One that was damaged after it was written is passed over for the one before.
        """
        for file in reversed(self._files()):
            try:
                progress = _read_progress(file)
                best = self.folder / _best_file(progress.best_epoch)
                return progress, _read(file), _read(best) if progress.best_epoch else {}
            except _DAMAGED:
                continue
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))


def _best_epoch(path: Path) -> int:
    """The best epoch that a checkpoint names; 0, which is none, where it is damaged."""
    try:
        return _read_progress(path).best_epoch
    except _DAMAGED:
        return 0


def _best_file(epoch: int) -> str:
    return f"best-{epoch:05d}.safetensors"


def _write(path: Path, state: State, about: dict[str, str]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", **about})
        except SafetensorError as error:  # a full disk, among others; it is no OSError
            raise OutputError(f"cannot write {path}: {error}") from error
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def _read(path: Path) -> State:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_progress(path: Path) -> Progress:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
    return Progress(**json.loads(about[_PROGRESS]))

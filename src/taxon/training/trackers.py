"""Trackers: a run watched in TensorBoard or MLflow; one that fails never stops the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from taxon.config import TrackerName, TrainConfig
from taxon.core.errors import ConfigError, Interrupted, OutputError
from taxon.core.files import require_writable, write_text
from taxon.core.text import one_line
from taxon.training.events import (
    Continued,
    EpochDone,
    Event,
    Listener,
    Note,
    StageStarted,
    StepDone,
)

FOLDER = "tracking"  # beside the model folder
_LONGEST_REASON = 300

Outcome = Literal["finished", "failed", "interrupted"]
Setting = bool | int | float | str


class Tracker(Protocol):
    """A program in which a run can be watched.

    What its methods raise, whatever it is, switches it off.

    Attributes:
        name: how people call it.
        place: where it writes, and how to look, in words.
    """

    name: str
    place: str

    def start(
        self, settings: Mapping[str, Setting], notes: Sequence[str], steps: int, kept: str | None
    ) -> str:
        """The first stage begins, or a run goes on; return what identifies it there.

        Args:
            settings: the configuration with dotted keys.
            notes: what was said so far.
            steps: that are finished; what was told of later ones comes again.
            kept: what identifies the run that goes on; None, or where it is gone: a new one.
        """

    def log(self, position: int, values: Mapping[str, float]) -> None:
        """Values of a step (`step/loss`) or an epoch (`epoch/train_loss`).

        Args:
            position: of the step or the epoch, counted from 1 over all stages.
        """

    def finish(
        self, steps: int, final: Mapping[str, float], notes: Sequence[str], outcome: Outcome
    ) -> None:
        """The run ends: the figures of the epoch that was kept, and all that was said.

        Args:
            steps: that are finished.
        """


class Kept(BaseModel):
    """What a resumed run must know to go on in its trackers.

    Attributes:
        runs: what identifies it, by the tracker's name.
        notes: what was said before its first step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: dict[str, str] = {}
    notes: tuple[str, ...] = ()


@contextmanager
def track(
    config: TrainConfig, run: Path, listener: Listener, *, kept: Path | None = None
) -> Iterator[Listener]:
    """Yield a listener that passes on what it hears to `listener` and to the run's trackers.

    Args:
        run: the model folder that will be written.
        kept: the file from which a resumed run knows itself in the trackers; it is looked for,
            and written, when the first stage begins. None: each time is a new run.

    Raises:
        MissingDependencyError: a tracker's package is not installed.
        ConfigError: a tracker cannot be reached, or its folder would be in the model folder.
        OutputError: the folder of the trackers cannot be written.
    """
    names = tuple(dict.fromkeys(config.trackers))
    if not names:
        yield listener
        return
    folder = _folder(config, run)
    opened = [_open(name, folder, run.name) for name in names]
    tracking = _Tracking(opened, config, listener, kept)
    outcome: Outcome = "failed"
    try:
        yield tracking
        outcome = "finished"
    except (KeyboardInterrupt, Interrupted):
        outcome = "interrupted"
        raise
    finally:
        tracking.finish(outcome)


def _folder(config: TrainConfig, run: Path) -> Path:
    given = config.tracking.folder
    folder = (run.absolute().parent / FOLDER) if given is None else Path(given).absolute()
    if folder.resolve().is_relative_to(run.resolve()):
        raise ConfigError(
            f"trackers would write to {folder}, which belongs to the model folder; "
            "name another one: --set tracking.folder=FOLDER"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"trackers cannot write to {folder}: it is not a folder")
    require_writable(folder / "file")
    return folder


def _open(name: TrackerName, folder: Path, run: str) -> Tracker:
    # Each imports a package that most installs do not have.
    if name == "tensorboard":
        from taxon.training.trackers_tensorboard import TensorBoard

        return TensorBoard(folder, run)
    from taxon.training.trackers_mlflow import MLflow

    return MLflow(folder, run)


class _Tracking:
    """A listener that tells the trackers, and does without those that fail."""

    def __init__(
        self,
        trackers: Sequence[Tracker],
        config: TrainConfig,
        listener: Listener,
        kept: Path | None,
    ) -> None:
        self._trackers = list(trackers)
        self._settings = flat(config.model_dump(mode="json"))
        self._listener = listener
        self._kept = kept
        self._started = False
        self._steps = 0
        self._notes: list[str] = []
        self._best: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        self._listener(event)
        if isinstance(event, Continued):
            self._steps, self._best = event.steps, _named("best", event.best or {})
        if isinstance(event, Note):
            self._notes.append(event.text)
        elif isinstance(event, StageStarted):
            self._start()
        elif isinstance(event, StepDone):
            self._steps += 1
            values = {"loss": event.loss, "learning_rate": event.learning_rate}
            self._log("step", self._steps, values)
        elif isinstance(event, EpochDone):
            if event.best:
                self._best = _named("best", event.row)
            values = {key: value for key, value in event.row.items() if key != "epoch"}
            self._log("epoch", event.row["epoch"], values)

    def finish(self, outcome: Outcome) -> None:
        """End the run where one was begun."""
        if self._started:
            self._each(
                lambda tracker: tracker.finish(self._steps, self._best, self._notes, outcome)
            )

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        before = _read(self._kept)
        runs = dict(before.runs)
        # A run that goes on says some of it again.
        self._notes = list(dict.fromkeys([*before.notes, *self._notes]))

        def start(tracker: Tracker) -> None:
            known = before.runs.get(tracker.name)
            runs[tracker.name] = tracker.start(self._settings, self._notes, self._steps, known)

        self._each(start)
        if self._kept is not None:
            now = Kept(runs=runs, notes=tuple(self._notes))
            with suppress(OutputError):  # training goes on; it will fail where a checkpoint does
                write_text(self._kept, now.model_dump_json(indent=2))
        for tracker in self._trackers:
            self._listener(Note(f"tracking: {tracker.place}"))

    def _log(self, group: str, position: int, values: Mapping[str, Any]) -> None:
        named = _named(group, values)
        self._each(lambda tracker: tracker.log(position, named))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # libraries of others: a server gone, a disk full, a bug
                self._trackers.remove(tracker)
                reason = one_line(str(error))[:_LONGEST_REASON] or type(error).__name__
                self._listener(
                    Note(
                        f"tracking with {tracker.name} is switched off, training goes on: {reason}"
                    )
                )


def _read(path: Path | None) -> Kept:
    """What was kept; nothing where the run is new, or its file is damaged."""
    try:
        return Kept() if path is None else Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Kept()


def _named(group: str, values: Mapping[str, Any]) -> dict[str, float]:
    """What is a number, each with the name of its group before it."""
    return {
        f"{group}/{key}": float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def is_epoch(values: Mapping[str, float]) -> bool:
    """Whether values are those of an epoch."""
    return any(name.startswith("epoch/") for name in values)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Nested values with dotted keys, as `--set` takes them: `stages.0.epochs`.

    null and empty lists, which trackers do not know, become text.
    """
    found: dict[str, Setting] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(place): item for place, item in enumerate(value)}
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            found[name] = value if plain else json.dumps(value, ensure_ascii=False)
    return found

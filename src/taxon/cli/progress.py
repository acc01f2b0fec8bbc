"""How training is shown: bars on a terminal, plain lines elsewhere, JSON lines, or nothing."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from taxon.core.text import counted
from taxon.training import (
    EpochDone,
    Event,
    Listener,
    Loading,
    Note,
    StageStarted,
    StepDone,
    silent,
)
from taxon.training.words import in_words


@contextmanager
def training_display(*, quiet: bool = False, json_log: bool = False) -> Iterator[Listener]:
    """Yield the listener that suits the options and the terminal."""
    if quiet:
        yield silent
    elif json_log:
        yield _print_json
    elif sys.stderr.isatty():
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
        ) as progress:
            yield _Bars(progress)
    else:
        yield _Lines()


@contextmanager
def counting_display() -> Iterator[Callable[[str, int, int], None] | None]:
    """Yield what shows (what, done, total) as bars on a terminal; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield show


def _print_json(event: Event) -> None:
    if not isinstance(event, Loading | StepDone):
        row = {"event": type(event).__name__, **dataclasses.asdict(event)}
        print(json.dumps(row, ensure_ascii=False), flush=True)


def _epoch_words(event: EpochDone) -> str:
    row = event.row
    score = f", macro-F1 {row['macro_f1']:.3f}" if row["macro_f1"] is not None else ""
    validation = row["validation_loss"]
    loss = f" / {validation:.3f}" if validation is not None else ""
    return f"loss {row['train_loss']:.3f}{loss}{score}"


class _Lines:
    """Plain lines, one an epoch; for logs and pipes."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._print(event.text)
        elif isinstance(event, StageStarted):
            self._print(_stage_words(event))
        elif isinstance(event, EpochDone):
            left = in_words(event.seconds_left)
            best = " (best)" if event.best and event.row["macro_f1"] is not None else ""
            self._print(f"  epoch {event.row['epoch']}: {_epoch_words(event)}{best}, {left} left")

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Bars:
    """A bar a stage, and one for looking into the pictures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._done = 0
        self._epochs = 0
        self._score = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._progress.console.print(event.text, highlight=False, markup=False)
        elif isinstance(event, Loading):
            self._loading(event)
        elif isinstance(event, StageStarted):
            self._stage(event)
        elif isinstance(event, StepDone):
            self._done += 1
            epoch = f"epoch {event.epoch}/{self._epochs}"
            left = in_words(event.seconds_left)
            self._update(self._done, f"{epoch}, loss {event.loss:.3f}{self._score}, {left} left")
        elif isinstance(event, EpochDone):
            score = event.row["macro_f1"]
            self._score = f", macro-F1 {score:.3f}" if score is not None else ""
            self._update(self._done, f"{_epoch_words(event)}, {in_words(event.seconds_left)} left")

    def _loading(self, event: Loading) -> None:
        if self._task is None:
            self._task = self._progress.add_task("pictures", total=event.total, words="")
        self._update(event.done, "")
        if event.done == event.total:
            self._task = None

    def _stage(self, event: StageStarted) -> None:
        self._done = 0
        self._epochs = event.epochs
        self._task = self._progress.add_task(
            f"stage {event.position}/{event.count} {event.name}",
            total=event.epochs * event.steps,
            words="",
        )

    def _update(self, done: int, words: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, words=words)


def _stage_words(event: StageStarted) -> str:
    epochs = counted(event.epochs, "epoch", "epochs")
    return (
        f"stage {event.position}/{event.count}, {event.name}: {epochs} of "
        f"{event.steps} steps, {event.trainable:,} of {event.total:,} parameters train"
    )

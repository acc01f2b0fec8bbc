"""What the processes of a job on Ray do when they are started, and started again; without Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_BACKBONE
from runs import require_same_run

import taxon
from taxon.api import ray_training
from taxon.api.ray_training import resume_on_ray, train_on_ray
from taxon.bundle import read_bundle
from taxon.core.errors import ConfigError, DataError, Interrupted
from taxon.scale.training import Job, Work
from taxon.training import Event, Listener
from taxon.training.events import Continued
from taxon.training.signals import stopped_elsewhere

pytestmark = pytest.mark.usefixtures("without_export")
OPTIONS: dict[str, Any] = {
    "model": TINY_BACKBONE,
    "recipe": "scratch",
    "weights": "none",
    "epochs": 3,
    "device": "cpu",
    "overrides": ["preprocessing.size=32"],
}
Engine = Callable[[Job, Work, Listener], Path]


def _run_by(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this in Ray's place."""
    monkeypatch.setattr(ray_training, "run_job", engine)


def _stopped_after(steps: int) -> Callable[[], bool]:
    asked = itertools.count()
    return lambda: next(asked) >= steps


def test_a_second_try_goes_on_from_the_checkpoint_of_the_first(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_once(job: Job, work: Work, listener: Listener) -> Path:
        with pytest.raises(Interrupted), stopped_elsewhere(_stopped_after(3)):
            work(0, listener)
        return work(1, listener)

    _run_by(stopped_once, monkeypatch)
    events: list[Event] = []
    run = train_on_ray(Job(2), few, out=tmp_path / "run", listener=events.append, **OPTIONS).path
    assert [isinstance(event, Continued) for event in events].count(True) == 1
    require_same_run(run, taxon.train(few, out=tmp_path / "whole", **OPTIONS).path)


def test_a_second_try_takes_no_older_model_for_its_own(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    taxon.train(few, out=run, seed=1, **OPTIONS)

    # The first try died before it left anything; the third after it had done all.
    _run_by(lambda job, work, listener: (work(1, listener), work(2, listener))[1], monkeypatch)
    train_on_ray(Job(2), few, out=run, seed=2, overwrite=True, **OPTIONS)
    assert read_bundle(run).info.provenance.config["seed"] == 2


def test_a_run_that_was_stopped_is_resumed_by_a_job(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match="taxon train --resume"), stopped_elsewhere(lambda: True):
        taxon.train(few, out=run, **OPTIONS)
    _run_by(lambda job, work, listener: work(0, listener), monkeypatch)
    assert resume_on_ray(Job(2), run).path == run
    assert len(read_bundle(run).info.provenance.history) == 3


def test_what_cannot_be_is_said_before_ray_is_started(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(job: Job, work: Work, listener: Listener) -> Path:
        raise AssertionError("it was started")

    _run_by(never, monkeypatch)
    with pytest.raises(DataError, match="no such file"):
        train_on_ray(Job(2), tmp_path / "absent")
    with pytest.raises(ConfigError, match="recipe"):
        train_on_ray(Job(2), few, recipe="absent")
    with pytest.raises(ConfigError, match="tags"):
        train_on_ray(Job(2), few, overrides=["loss.multilabel=asymmetric"])
    with pytest.raises(ConfigError, match="--workers is 0"):
        Job(0)

"""Runs on a device that is not the CPU have the weights of runs on the CPU.

Recipe `auto`: tests/test_choices.py.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from other_device import DEVICE, Elsewhere, on_other_device
from runs import StopAt, require_same_run

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import Interrupted

pytestmark = [
    pytest.mark.usefixtures("without_export"),
    # torch takes the stand-in's parameters for empty ones, into which nothing can be copied.
    pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning"),
]

BACKBONE = "test_efficientnet"  # with batch norm
# Frozen features, frozen blocks before others that train, then all.
STAGES = (
    "stages=[{name: head, epochs: 1, unfrozen_blocks: 0, learning_rate: 0.003}, "
    "{name: last, epochs: 1, unfrozen_blocks: 1, learning_rate: 0.003}, "
    "{name: all, epochs: 1, unfrozen_blocks: all, learning_rate: 0.003}]"
)
EVERYTHING = [
    *(STAGES, "optimiser.ema=0.9", "optimiser.gradient_clip=1"),
    *("augment.mixup=0.2", "augment.cutmix=0.5", "optimiser.layer_decay=0.8"),
]


def _train(data: Path, out: Path, *more: str, **options: Any) -> Path:
    named: dict[str, Any] = {"model": BACKBONE, "weights": "none", "batch_size": 16}
    overrides = ["preprocessing.size=32", *more]
    return taxon.train(data, out=out, overrides=overrides, **(named | options)).path


def _both(data: Path, folder: Path, *more: str, **options: Any) -> None:
    with on_other_device():
        elsewhere = _train(data, folder / "elsewhere", *more, **options)
    require_same_run(elsewhere, _train(data, folder / "here", *more, device="cpu", **options))


def test_the_stand_in_refuses_what_was_left_on_the_cpu() -> None:
    with on_other_device():
        layer = torch.nn.Linear(3, 2).to(DEVICE)
        pictures = torch.ones(4, 3)
        assert isinstance(layer(pictures.to(DEVICE)), Elsewhere)
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            layer(pictures)
        with pytest.raises((RuntimeError, TypeError)):
            layer(pictures.to(DEVICE)).detach().numpy()


@pytest.mark.slow
def test_stages_of_several_labels_with_all_that_has_a_state(tags: Path, tmp_path: Path) -> None:
    _both(tags, tmp_path, *EVERYTHING, "loss.multilabel=asymmetric", recipe="staged")


@pytest.mark.slow
def test_a_taxonomy_stopped_and_resumed(surfaces: Path, tmp_path: Path) -> None:
    options = {"recipe": "staged", "imbalance": "weighted-sampler"}
    overrides = [*EVERYTHING, "loss.taxonomy=hierarchical"]
    with on_other_device():
        stop = StopAt(9, signal.SIGTERM)
        with pytest.raises(Interrupted):
            _train(surfaces, tmp_path / "elsewhere", *overrides, **options, listener=stop)
        resumed = taxon.resume(tmp_path / "elsewhere")
    require_same_run(
        resumed.path, _train(surfaces, tmp_path / "here", *overrides, device="cpu", **options)
    )


def test_a_student_of_a_teacher(run: Path, few: Path, tmp_path: Path) -> None:
    # The teacher is asked there too, and on the CPU through ONNX Runtime: not to the last digit.
    with on_other_device():
        student = _train(few, tmp_path / "run", recipe="scratch", epochs=1, teacher=run)
    assert read_bundle(student).info.provenance.history[0]["train_loss"] > 0


def test_predictions(run: Path, few: Path) -> None:
    picture = min((few / "good").iterdir())
    here = taxon.load(run, backend="torch").predict(picture)
    with on_other_device():
        assert taxon.load(run, backend="torch", device=DEVICE.type).predict(picture) == here

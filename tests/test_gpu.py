"""On a GPU: precision, compilation, repeatability, resuming, memory, and a process group."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from runs import StopAt, require_same_weights

import taxon
from taxon.core.errors import Interrupted
from taxon.training import Event, Note

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# Frozen features, then frozen blocks before others that train, then all, with batch norm.
STAGES = (
    "stages=[{name: head, epochs: 1, unfrozen_blocks: 0, learning_rate: 0.003}, "
    "{name: last, epochs: 2, unfrozen_blocks: 1, learning_rate: 0.003}, "
    "{name: all, epochs: 2, unfrozen_blocks: all, learning_rate: 0.003, schedule: cosine}]"
)
OVERRIDES = ["preprocessing.size=64", "optimiser.ema=0.9", STAGES]
BACKBONE = "test_efficientnet"


def _train(data: Path, out: Path, *more: str, **options: Any) -> taxon.Model:
    named: dict[str, Any] = {
        "model": BACKBONE,
        "weights": "none",
        "recipe": "scratch",
        "batch_size": 16,
        "device": "cuda",
    }
    return taxon.train(data, out=out, overrides=[*OVERRIDES, *more], **(named | options))


@pytest.fixture
def little_memory() -> Iterator[Callable[[int], None]]:
    """A function that gives this process so many MiB of the device, until the test ends."""
    total = torch.cuda.get_device_properties(0).total_memory

    def give(mebibytes: int) -> None:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((mebibytes << 20) / total)

    yield give
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "float32"])
def test_each_precision_trains_exports_and_verifies(
    defects: Path, tmp_path: Path, precision: str
) -> None:
    model = _train(defects, tmp_path / "run", f"precision={precision}")
    # `train` verifies the artefact with ONNX Runtime on the CPU; it fails where the two differ.
    assert (model.path / "artefacts" / "onnx" / "model.onnx").is_file()
    assert np.isfinite(model.predict(min((defects / "good").iterdir())).confidence)


def test_compiled_it_trains_exports_and_verifies(defects: Path, tmp_path: Path) -> None:
    model = _train(defects, tmp_path / "run", "compile=true", "precision=bf16")
    assert (model.path / "artefacts" / "onnx" / "model.onnx").is_file()


def test_deterministic_runs_are_equal(defects: Path, tmp_path: Path) -> None:
    first = _train(defects, tmp_path / "first", "deterministic=true")
    second = _train(defects, tmp_path / "second", "deterministic=true")
    require_same_weights(first.path, second.path)


@pytest.mark.parametrize("step", [3, 20, 40])
def test_a_stopped_run_ends_as_an_uninterrupted_one(
    defects: Path, tmp_path: Path, step: int
) -> None:
    whole = _train(defects, tmp_path / "whole", "deterministic=true")
    with pytest.raises(Interrupted):
        _train(
            defects, tmp_path / "run", "deterministic=true", listener=StopAt(step, signal.SIGTERM)
        )
    resumed = taxon.resume(tmp_path / "run")
    require_same_weights(resumed.path, whole.path)


def test_a_batch_that_does_not_fit_goes_in_parts(
    defects: Path, tmp_path: Path, little_memory: Callable[[int], None]
) -> None:
    events: list[Event] = []
    little_memory(600)
    model = _train(
        defects,
        tmp_path / "run",
        "preprocessing.size=224",
        "stages=[{name: all, epochs: 1, unfrozen_blocks: all, learning_rate: 0.001}]",
        model="mobilenetv3_small_100",
        batch_size=128,
        listener=events.append,
    )
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("does not fit into the device's memory" in note for note in notes)
    assert (model.path / "artefacts" / "onnx" / "model.onnx").is_file()


def test_under_torchrun_a_process_group_trains_the_same_model(
    defects: Path, tmp_path: Path
) -> None:
    alone = _train(defects, tmp_path / "alone", "deterministic=true", model=TINY_BACKBONE)
    options = [f"--set={override}" for override in [*OVERRIDES, "deterministic=true"]]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1"),
            *("-m", "taxon", "train", str(defects), "--out", str(tmp_path / "run")),
            *("--model", TINY_BACKBONE, "--recipe", "scratch", "--weights", "none"),
            *("--batch-size", "16", "--device", "cuda", *options),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    require_same_weights(tmp_path / "run", alone.path)

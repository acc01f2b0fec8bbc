"""Two processes train the model that one would have trained, and end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from commands import QUICK_TAXON
from conftest import TINY_BACKBONE, exports_left_out
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import ConfigError
from taxon.training.checkpoint import Checkpoints
from taxon.training.distributed import Team
from taxon.training.mixing import mixing_generator

# Frozen features and then the whole network; shares of 8 and 7 pictures, each in two parts. A
# network without batch norm and a head without dropout: what else there is must not depend on the
# number of processes.
STAGES = [
    {"name": "last", "epochs": 2, "unfrozen_blocks": 1, "learning_rate": 0.003},
    {
        "name": "all",
        "epochs": 2,
        "unfrozen_blocks": "all",
        "learning_rate": 0.001,
        "schedule": "cosine",
    },
]
CONFIG = {
    "model": TINY_BACKBONE,
    "weights": "none",
    "device": "cpu",
    "head": "linear",
    "preprocessing": {"size": 32},
    "feature_cache": {"views": 2},
    "batch_size": 15,
    "accumulation": 2,
    "imbalance": {"strategy": "oversample"},
    "optimiser": {"ema": 0.9, "gradient_clip": 1.0},
    "stages": STAGES,
}
EPOCHS = sum(stage["epochs"] for stage in STAGES)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


@pytest.fixture(scope="module", autouse=True)
def _without_export() -> Iterator[None]:
    """In this process the weights are compared."""
    with exports_left_out():
        yield


@pytest.fixture(scope="module")
def alone(few: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return taxon.train(few, out=run, recipe="scratch", config=config).path


def _two_processes(*arguments: str) -> subprocess.Popen[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*start, QUICK_TAXON, "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _train_in_two(data: Path, run: Path, config: Path) -> subprocess.Popen[str]:
    named = ["--out", str(run), "--recipe", "scratch", "--config", str(config)]
    return _two_processes(str(data), *named)


def _after_first_epoch(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if list((run / "checkpoints").glob("step-*.safetensors")):
            return
        time.sleep(0.002)
    raise AssertionError(process.communicate())


def _require_same_model(run: Path, reference: Path) -> None:
    for name in ("model.safetensors", "head.safetensors"):
        ours, expected = load_file(run / name), load_file(reference / name)
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-4, msg=key)
    ours_, expected_ = (read_bundle(path).info.provenance.history for path in (run, reference))
    assert len(ours_) == len(expected_) == EPOCHS
    for row, wanted in zip(ours_, expected_, strict=True):
        assert row["stage"] == wanted["stage"] and row["learning_rate"] == wanted["learning_rate"]
        for key in ("train_loss", "validation_loss"):
            assert row[key] == pytest.approx(wanted[key], rel=1e-4)


def _require_unfinished(run: Path) -> None:
    assert not (run / "bundle.json").exists()
    kept = Checkpoints(run / "checkpoints").load()
    assert kept is not None
    assert kept[0].total_steps > 0 and len(kept[0].history) < EPOCHS


def test_two_processes_train_the_model_of_one(
    few: Path, config: Path, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _train_in_two(few, run, config)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    # One process speaks and writes.
    assert said.count("estimated time:") == said.count("model written to") == 1
    assert said.count("ONNX exported:") == printed.count("taxon evaluate") == 1
    _require_same_model(run, alone)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_train_the_model_of_one(
    few: Path, config: Path, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _train_in_two(few, run, config)
    _after_first_epoch(process, run)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=180)
    # One process speaks and writes.
    assert said.count("; continue with: taxon train --resume") == 1, said
    assert said.count("estimated time:") == 1
    _require_unfinished(run)
    process = _two_processes("--resume", str(run))
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("continued after epoch") == said.count("model written to") == 1
    assert said.count("ONNX exported:") == printed.count("taxon evaluate") == 1
    _require_same_model(run, alone)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (run / "checkpoints").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_one_process_goes_on(
    few: Path, config: Path, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _train_in_two(few, run, config)
    _after_first_epoch(process, run)
    workers = psutil.Process(process.pid).children()
    (second,) = [worker for worker in workers if worker.environ().get("RANK") == "1"]
    second.kill()
    _, said = process.communicate(timeout=180)
    assert process.returncode != 0
    assert said.count("another process of the run ended before its time") == 1, said
    assert "internal error" not in said
    assert not any(worker.is_running() for worker in workers)
    _require_unfinished(run)
    _require_same_model(taxon.resume(run).path, alone)


@pytest.mark.slow
def test_a_user_error_is_said_once_and_every_process_ends_with_it(tmp_path: Path) -> None:
    process = _two_processes(str(tmp_path / "absent"), "--device", "cpu")
    _, said = process.communicate(timeout=180)
    assert said.count("error: no such file or folder") == 1
    assert re.findall(r"exitcode +: (-?\d+)", said) == ["2", "2"]


@given(count=st.integers(0, 300), size=st.integers(1, 9), start=st.integers(0, 50))
def test_shares_are_the_whole_in_order_and_differ_by_one(count: int, size: int, start: int) -> None:
    places = range(start, start + count)
    shares = [Team(rank, size).share(places) for rank in range(size)]
    assert [place for share in shares for place in share] == list(places)
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(count=st.integers(0, 60), size=st.integers(1, 9))
def test_turns_are_equally_many_and_in_order(count: int, size: int) -> None:
    dealt = [Team(rank, size).turns(range(count)) for rank in range(size)]
    assert len({len(items) for items in dealt}) == 1
    together = [item for round_ in zip(*dealt, strict=True) for item in round_]
    assert together[:count] == list(range(count))
    assert set(together[count:]) <= {count - 1} and len(together) - count < size


def test_each_process_mixes_by_its_own_chance() -> None:
    drawn = {mixing_generator(0, 1, 2, process).initial_seed() for process in range(8)}
    assert len(drawn) == 8 and mixing_generator(0, 1, 2).initial_seed() in drawn


def test_an_error_goes_through_a_process_alone_as_it_is() -> None:
    team = Team()

    def refuse() -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match=r"^no$"):
        team.attempt(refuse)
    with pytest.raises(ConfigError, match=r"^no$"):
        team.from_first(refuse)
    assert team.attempt(lambda: 3) == team.from_first(lambda: 3) == 3

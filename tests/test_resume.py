"""A run that is killed, stopped or hindered at any moment ends with the same model, or says why."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import QUICK_TAXON, fails
from commands import taxon as run_command
from conftest import TINY_BACKBONE
from filelock import FileLock
from runs import StopAt, require_same_run, weights
from safetensors.torch import save_file

import taxon
from taxon.bundle import read_bundle
from taxon.core.errors import BundleError, DivergedError, Interrupted, OutputError
from taxon.data import read_manifest
from taxon.training import EpochDone, Event, Note, StepDone, trainer
from taxon.training import checkpoint as checkpoint_module
from taxon.training.checkpoint import Checkpoints, Progress

pytestmark = pytest.mark.usefixtures("without_export")

# Two stages, dropout in the head, a moving average, repeats of rare classes: all that has a state.
OVERRIDES = [
    "preprocessing.size=32",
    "stages=[{name: last, epochs: 4, unfrozen_blocks: 1, learning_rate: 0.003}, "
    "{name: all, epochs: 3, unfrozen_blocks: all, learning_rate: 0.003, schedule: cosine}]",
    "optimiser.ema=0.9",
    "optimiser.gradient_clip=1",
    "augment.mixup=0.2",
    "stages.0.mixing=false",
]
OPTIONS = {
    "model": TINY_BACKBONE,
    "recipe": "scratch",
    "weights": "none",
    "batch_size": 32,
    "imbalance": "oversample",
    "overrides": OVERRIDES,
}


@pytest.fixture(scope="module")
def uninterrupted(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taxon.train(few, out=tmp_path_factory.mktemp("whole") / "run", **OPTIONS).path


def _train_arguments(data: Path, run: Path) -> list[str]:
    options = [f"--set={override}" for override in OVERRIDES]
    named = ["--model", TINY_BACKBONE, "--recipe", "scratch", "--weights", "none"]
    named += ["--batch-size", "32", "--imbalance", "oversample"]
    return ["train", str(data), "--out", str(run), *named, *options]


def _process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, QUICK_TAXON, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Inside a stage; and at a stage's border, inside that stage, and inside the other one. What is not
# killed any more needs no process of its own.
@pytest.mark.parametrize("kills", [(2,), pytest.param((4, 2, 6), marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_run_ends_with_the_same_weights(
    kills: tuple[int, ...], few: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run, chance = tmp_path / "run", random.Random(7)
    arguments = _train_arguments(few, run)
    for epochs in kills:  # after so many checkpoints
        process = _process(*arguments)
        files = run / "checkpoints"
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            done = [int(file.stem.split("-")[2]) for file in files.glob("step-*.safetensors")]
            if done and max(done) >= epochs:
                time.sleep(chance.random() * 0.3)
                break
            time.sleep(0.002)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert not (run / "bundle.json").exists()
        arguments = ["train", "--resume", str(run)]
    done = run_command(*arguments)
    assert done.returncode == 0 and "continued after epoch" in done.stderr, done.stderr
    require_same_run(run, uninterrupted)
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stop_request_saves_within_the_epoch(
    number: signal.Signals, few: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=r"taxon train --resume .*run") as stopped:
        taxon.train(few, out=run, listener=StopAt(7, number), **OPTIONS)
    assert stopped.value.exit_code == 130
    kept = Checkpoints(run / "checkpoints").load()
    assert kept is not None
    assert kept[0].total_steps == 7 and kept[0].steps > 0
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    require_same_run(taxon.resume(run).path, uninterrupted)


def test_stopped_after_the_head_was_solved_for_a_run_goes_on_to_its_end(
    few: Path, tmp_path: Path
) -> None:
    stages = (
        "stages=[{name: head, method: logistic}, "
        "{name: all, epochs: 2, unfrozen_blocks: all, learning_rate: 0.003}]"
    )
    options = OPTIONS | {"recipe": "probe", "overrides": ["preprocessing.size=32", stages]}
    whole = taxon.train(few, out=tmp_path / "whole", **options).path

    def leave(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taxon.train(few, out=tmp_path / "run", listener=leave, **options)
    require_same_run(taxon.resume(tmp_path / "run").path, whole)


def test_killed_before_the_first_checkpoint_a_run_starts_over(
    few: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def leave(event: Event) -> None:
        if isinstance(event, Note) and event.text.startswith("split"):
            raise KeyboardInterrupt

    # Killed even before it had noted what was asked for, it does not stand in the way.
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "lock").touch()
    with pytest.raises(KeyboardInterrupt):
        taxon.train(few, out=run, listener=leave, **OPTIONS)
    assert [file.name for file in (run / "checkpoints").iterdir() if file.suffix] == [
        "request.json"
    ]
    require_same_run(taxon.resume(run).path, uninterrupted)


def test_interrupted_after_the_last_epoch_only_the_folder_is_written(
    few: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def leave(event: Event) -> None:
        if isinstance(event, Note) and event.text.startswith("kept: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        taxon.train(few, out=run, listener=leave, **OPTIONS)
    assert not (run / "bundle.json").exists()
    # As if it had been killed between the two renames that put the new folder into its place.
    aside = tmp_path / ".run.abcdefgh.old"
    aside.mkdir()
    run.rename(aside / "old")
    (tmp_path / ".run.ijklmnop.tmp").mkdir()
    events: list[Event] = []
    require_same_run(taxon.resume(run, listener=events.append).path, uninterrupted)
    assert not any(isinstance(event, StepDone) for event in events)
    assert list(tmp_path.iterdir()) == [run]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    few: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        taxon.train(few, out=run, listener=StopAt(14, signal.SIGINT), **OPTIONS)
    files = sorted((run / "checkpoints").glob("step-*.safetensors"))
    assert len(files) == 2
    content = files[1].read_bytes()
    files[1].write_bytes(content[: len(content) // 2])
    require_same_run(taxon.resume(run).path, uninterrupted)


def test_a_finished_run_is_finished(uninterrupted: Path) -> None:
    before = weights(uninterrupted)
    aside = uninterrupted.with_name(f".{uninterrupted.name}.abcdefgh.old")
    (aside / "old").mkdir(parents=True)  # as if it had been killed while it removed that
    done = run_command("train", "--resume", uninterrupted)
    assert done.returncode == 0 and "is finished already" in done.stderr
    assert not aside.exists()
    assert all(torch.equal(value, before[name]) for name, value in weights(uninterrupted).items())


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no interrupted run"):
        taxon.resume(tmp_path)


def test_a_second_training_into_the_folder_is_refused(few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        taxon.train(few, out=run, listener=StopAt(1, signal.SIGINT), **OPTIONS)
    with FileLock(run / "checkpoints" / "lock"):
        fails(2, "train", "--resume", run, saying="another training writes into")
        with pytest.raises(OutputError, match="another training"):
            taxon.train(few, out=run, overwrite=True, **OPTIONS)


def test_an_interrupted_run_is_not_written_over_unasked(few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        taxon.train(few, out=run, listener=StopAt(1, signal.SIGINT), **OPTIONS)
    with pytest.raises(OutputError, match=r"--resume .*run`, start anew with --overwrite"):
        taxon.train(few, out=run, **OPTIONS)
    again = OPTIONS | {"overrides": [*OVERRIDES, "seed=1"]}
    events: list[Event] = []
    taxon.train(few, out=run, overwrite=True, listener=events.append, **again)
    epochs = [event.row["epoch"] for event in events if isinstance(event, EpochDone)]
    assert epochs == list(range(1, 8))
    assert read_bundle(run).info.provenance.config["seed"] == 1


def test_a_user_error_leaves_no_folder(few: Path, tmp_path: Path) -> None:
    with pytest.raises(taxon.InputError):
        taxon.train(few, out=tmp_path / "run", model="no_such_backbone", weights="none")
    assert not (tmp_path / "run").exists()


def test_the_old_model_stays_until_the_new_one_is_whole(
    few: Path, run: Path, uninterrupted: Path, copy_of: Callable[[Path], Path]
) -> None:
    run = copy_of(run)
    before = weights(run)
    with pytest.raises(Interrupted):
        taxon.train(few, out=run, overwrite=True, listener=StopAt(3, signal.SIGINT), **OPTIONS)
    assert all(torch.equal(value, before[name]) for name, value in weights(run).items())
    read_bundle(run)
    require_same_run(taxon.resume(run).path, uninterrupted)


def test_a_full_disk_is_said_and_the_checkpoint_before_is_intact(
    few: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, written = tmp_path / "run", 0

    def fill(state: dict[str, torch.Tensor], path: Path, **about: object) -> None:
        nonlocal written
        written += 1
        if written > 5:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(state, path, **about)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module, "save_file", fill)
        with pytest.raises(OutputError, match="No space left on device"):
            taxon.train(few, out=run, **OPTIONS)
    assert Checkpoints(run / "checkpoints").load() is not None
    require_same_run(taxon.resume(run).path, uninterrupted)


class Breaks(torch.nn.Module):
    """A loss that is no number from its 15th value on."""

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss, self.calls = loss, 0

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        values = self.loss(logits, targets)
        return values * float("nan") if self.calls >= 15 else values


def test_a_loss_that_is_no_number_keeps_the_last_good_epoch_and_names_pictures(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, build = tmp_path / "run", trainer.build_loss
    monkeypatch.setattr(trainer, "build_loss", lambda *arguments: Breaks(build(*arguments)))
    with pytest.raises(DivergedError, match=r"epoch \d+: .*best epoch before is in") as error:
        taxon.train(few, out=run, **(OPTIONS | {"imbalance": "none", "batch_size": 16}))
    bundle = read_bundle(run)
    notes = bundle.info.provenance.notes
    ended = next(note for note in notes if "training ended early" in note)
    assert "the loss became nan in step" in ended and "(pictures: '" in ended
    assert any(note.startswith("kept: the weights of epoch") for note in notes)
    assert all(value.isfinite().all() for value in weights(run).values())
    shown = str(error.value).split("pictures: '")[1].split("'")[0]
    assert shown in {record.id for record in read_manifest(run / "manifest.parquet").records}
    assert not (run / "checkpoints").exists()


def test_two_checkpoints_and_their_best_weights_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for epoch in range(1, 6):
        best = min(epoch, 3)
        if epoch <= 3:
            kept.save_best(best, {"w": torch.tensor([float(best)])})
        history = [{"epoch": number} for number in range(epoch)]
        progress = Progress(total_steps=10 * epoch, history=history, best_epoch=best)
        kept.save(progress, {"w": torch.tensor([float(epoch)])})
    assert len(list(tmp_path.glob("step-*"))) == 2
    assert [file.name for file in tmp_path.glob("best-*")] == ["best-00003.safetensors"]
    loaded = kept.load()
    assert loaded is not None
    progress, state, best = loaded
    assert (progress.total_steps, state["w"].item(), best["w"].item()) == (50, 5.0, 3.0)

"""Training through the public API: stages, determinism, the kept epoch, what is recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE, train_tiny
from pictures import encode
from runs import require_same_weights
from safetensors.torch import load_file

import taxon
from taxon.bundle import read_bundle
from taxon.config import StageConfig
from taxon.core.errors import ConfigError, DataError, DivergedError, OutputError
from taxon.core.labels import LabelSpace
from taxon.data import read_manifest, read_source
from taxon.data.loading.pixel_store import MemoryStore
from taxon.training import EpochDone, Event, Note, StageStarted, StepDone
from taxon.training.clock import Clock
from taxon.training.losses import build_loss
from taxon.training.optimiser import rate_factor
from taxon.training.words import in_words

pytestmark = pytest.mark.usefixtures("without_export")


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))


def test_same_seed_gives_the_same_model(defects: Path, run: Path, tmp_path: Path) -> None:
    again = train_tiny(defects, tmp_path / "again").path
    require_same_weights(again, run)


def test_another_seed_gives_another_model_and_split(
    defects: Path, run: Path, tmp_path: Path
) -> None:
    other = train_tiny(defects, tmp_path / "other", seed=1, epochs=1).path
    assert not torch.equal(
        load_file(run / "head.safetensors")["0.weight"],
        load_file(other / "head.safetensors")["0.weight"],
    )
    splits = [
        {record.id: record.split for record in read_manifest(path / "manifest.parquet").records}
        for path in (run, other)
    ]
    assert splits[0] != splits[1]


def test_staged_recipe_on_pretrained_weights(run: Path, defects: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    weights = run / "model.safetensors"
    model = taxon.train(
        defects,
        out=tmp_path / "staged",
        model=TINY_BACKBONE,
        weights=weights,
        recipe="staged",
        epochs=5,
        listener=recorder,
    )
    stages = [event for event in recorder.events if isinstance(event, StageStarted)]
    assert [stage.name for stage in stages] == ["head", "last 2 blocks", "all"]
    assert [stage.epochs for stage in stages] == [1, 2, 2]
    assert stages[0].trainable < stages[1].trainable < stages[2].trainable == stages[2].total
    epochs = [event for event in recorder.events if isinstance(event, EpochDone)]
    assert [event.row["epoch"] for event in epochs] == [1, 2, 3, 4, 5]
    assert [event.row["learning_rate"] for event in epochs[:3]] == [1e-3, 1e-4, 1e-4]
    steps = [event for event in recorder.events if isinstance(event, StepDone)]
    assert len(steps) == sum(stage.epochs * stage.steps for stage in stages)
    notes = recorder.notes()
    assert "estimated time" in notes and "as asked" in notes and "left-right flips" in notes

    history = read_bundle(model.path).info.provenance.history
    best = max(history, key=lambda row: row["macro_f1"])["macro_f1"]
    kept = next(note for note in notes.splitlines() if note.startswith("kept"))
    epoch = int(kept.split("epoch ")[1].split(" ")[0])
    assert history[epoch - 1]["macro_f1"] == best


def test_frozen_stage_leaves_the_backbone_bit_equal(
    run: Path, defects: Path, tmp_path: Path
) -> None:
    stages = "stages=[{name: head, epochs: 1, unfrozen_blocks: 0, learning_rate: 0.01}]"
    model = taxon.train(
        defects,
        out=tmp_path / "head-only",
        model=TINY_BACKBONE,
        weights=run / "model.safetensors",
        overrides=[stages],
    )
    before = load_file(run / "model.safetensors")
    after = load_file(model.path / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_training_learns(tmp_path: Path) -> None:
    """Dark and bright pictures can be told apart within a few epochs."""
    for name, level in (("bright", 150), ("dark", 0)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(24):
            noise = np.random.default_rng([level, seed]).integers(0, 100, (32, 32, 3))
            picture = (noise + level).astype(np.uint8)
            (tmp_path / "data" / name / f"{seed}.png").write_bytes(encode(picture))
    model = train_tiny(tmp_path / "data", tmp_path / "run", epochs=6)
    history = read_bundle(model.path).info.provenance.history
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_without_validation_the_last_epoch_is_kept(defects: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=2,
        overrides=["preprocessing.size=32", "split.validation=0", "split.test=0"],
        listener=recorder,
    )
    assert "the last epoch is kept" in recorder.notes()
    bundle = read_bundle(model.path)
    assert bundle.info.provenance.history[-1]["macro_f1"] is None
    assert bundle.spec.policy.fitted_on == "defaults"
    with pytest.raises(DataError, match="no pictures in the part 'test'"):
        model.evaluate()


@pytest.mark.parametrize("validation", [0.15, 0.0])
def test_a_model_whose_answers_are_no_numbers_is_never_kept(
    defects: Path, tmp_path: Path, validation: float
) -> None:
    # One step an epoch: the loss before it is finite, what the model answers after it is not.
    config = tmp_path / "wild.yaml"
    stage = "{name: all, epochs: 1, unfrozen_blocks: all, learning_rate: 10, schedule: constant}"
    config.write_text(f"stages:\n- {stage}\nbatch_size: 256\n")
    with pytest.raises(DivergedError, match=r"epoch 1: .*lower learning rate"):
        taxon.train(
            defects,
            out=tmp_path / "run",
            model="test_efficientnet",
            weights="none",
            config=config,
            overrides=["preprocessing.size=32", f"split.validation={validation}"],
        )
    assert not (tmp_path / "run").exists()


def test_weights_none_takes_the_recipe_scratch_and_says_so(defects: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        overrides=["preprocessing.size=32"],
        listener=recorder,
    )
    assert "recipe: scratch" in recorder.notes()
    assert read_bundle(model.path).info.provenance.config["recipe"] == "scratch"


def test_unreadable_picture_is_named_and_the_run_goes_on(
    defects: Path, tmp_path: Path, copy_of: Any
) -> None:
    data = copy_of(defects)
    (data / "good" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    recorder = Recorder()
    model = taxon.train(
        data,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        overrides=["preprocessing.size=32"],
        listener=recorder,
    )
    assert "good/broken.jpg" in recorder.notes()
    manifest = read_manifest(model.path / "manifest.parquet")
    assert [skipped.id for skipped in manifest.skipped] == ["good/broken.jpg"]


def test_what_hinders_the_cache_is_said_once(
    defects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "decoded pictures are no longer kept (a reason)"
    monkeypatch.setattr(MemoryStore, "put", lambda *arguments: words)
    recorder = Recorder()
    taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=2,
        overrides=["preprocessing.size=32", "loader.cache=ram"],
        listener=recorder,
    )
    assert recorder.notes().count(words) == 1


def test_existing_run_is_refused_and_untouched(run: Path, defects: Path) -> None:
    before = (run / "bundle.json").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        train_tiny(defects, run)
    assert (run / "bundle.json").read_bytes() == before


def test_failed_run_leaves_nothing_behind(defects: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown backbone"):
        taxon.train(defects, out=tmp_path / "run", model="resnet18x", weights="none", epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_device_that_is_not_there(defects: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without GPU")
    with pytest.raises(ConfigError, match="the device 'cuda' is not there"):
        taxon.train(defects, out=tmp_path / "run", weights="none", device="cuda")


def test_multilabel_and_taxonomy_train_evaluate_and_predict(
    tags_run: Path, surfaces_run: Path, tags: Path, surfaces: Path, tmp_path: Path
) -> None:
    tagged = taxon.load(tags_run)
    assert tagged.spec.label_space.task == "multilabel"
    result = tagged.evaluate(out=tmp_path / "tags")
    assert result.metrics.task == "multilabel" and result.metrics.top1.value is None
    answer = tagged.predict(tags / "images" / "0001.jpg")
    assert answer.label is None
    assert set(answer.labels) <= set(tagged.spec.label_space.names)

    nested = taxon.load(surfaces_run)
    space = nested.spec.label_space
    assert space.is_taxonomy and space.depth == 2
    result = nested.evaluate(out=tmp_path / "surfaces")
    assert [level.level for level in result.metrics.levels] == [0, 1]
    picture = next(surfaces.glob("*/*/*.jpg"))
    answer = nested.predict(picture)
    assert answer.label in space.names
    assert answer.taxonomy == () or answer.taxonomy[0] in {
        name.split("/")[0] for name in space.names
    }


def test_losses_of_hand_computed_cases() -> None:
    loss = build_loss(LabelSpace.flat("multiclass", "ab"))
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])
    values = loss(logits, torch.tensor([0, 1]))
    assert values.tolist() == pytest.approx([np.log(2), np.log(4)])  # -log 1/2, -log 1/4
    loss = build_loss(LabelSpace.flat("multilabel", "ab"))
    values = loss(torch.tensor([[0.0, np.log(3.0)]]), torch.tensor([[1, 0]]))
    assert values.tolist() == pytest.approx([(np.log(2) + np.log(4)) / 2])


def test_learning_rate_schedule() -> None:
    stage = StageConfig(
        name="all", epochs=1, unfrozen_blocks="all", learning_rate=1.0, schedule="cosine"
    )
    rates = [rate_factor(step, stage, total=12, warmup=2) for step in range(12)]
    assert rates[:3] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    assert rates[7] == pytest.approx(0.5) and rates[2:] == sorted(rates[2:], reverse=True)
    constant = stage.model_copy(update={"schedule": "constant"})
    assert rate_factor(11, constant, total=12, warmup=0) == 1.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59, "59 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_provenance_says_how_to_make_it_again(run: Path) -> None:
    provenance = read_bundle(run).info.provenance
    assert provenance.config["seed"] == 0 and provenance.device == "cpu"
    assert provenance.versions["torch"] == torch.__version__.split("+")[0]
    assert provenance.data_fingerprint == read_manifest(run / "manifest.parquet").fingerprint
    card = (run / "README.md").read_text()
    assert read_bundle(run).info.fingerprint in card and "`crack`" in card
    json.loads((run / "bundle.json").read_text())


def test_overwrite_replaces_models_only(run: Path, defects: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "photo.jpg").write_bytes(b"the only copy")
    with pytest.raises(OutputError, match="taxon did not write it"):
        taxon.train(defects, out=tmp_path / "precious", weights="none", overwrite=True)
    assert (tmp_path / "precious" / "photo.jpg").read_bytes() == b"the only copy"


def test_what_others_keep_in_a_model_folder_is_not_lost(
    run: Path, defects: Path, copy_of: Any
) -> None:
    copy = copy_of(run)
    (copy / ".DS_Store").write_text("made by the system")
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt in it was not written by taxon"):
        taxon.train(defects, out=copy, weights="none", overwrite=True)
    assert (copy / "notes.txt").read_text() == "mine"


def test_evaluation_replaces_evaluations_only(run: Path, defects: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            taxon.evaluate(run, out=tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "metrics.json").read_text() == "{}"
    taxon.evaluate(run, out=tmp_path / "new")
    with pytest.raises(OutputError, match="--overwrite"):
        taxon.evaluate(run, out=tmp_path / "new")
    taxon.evaluate(run, out=tmp_path / "new", overwrite=True)


def test_evaluations_of_sets_of_one_name_lie_apart(
    run: Path, defects: Path, tmp_path: Path, copy_of: Any
) -> None:
    copy = copy_of(run)
    folders = []
    for place in ("a", "b"):
        shutil.copytree(defects, tmp_path / place / "defects")
        folders.append(taxon.evaluate(copy, tmp_path / place / "defects", split="all").folder)
    again = taxon.evaluate(copy, tmp_path / "a" / "defects", split="all").folder
    assert [folder.name for folder in folders] == ["defects-all", "defects-all-2"]
    assert again == folders[0]
    (folders[0] / "metrics.json").write_text("damaged")
    kept = taxon.evaluate(copy, tmp_path / "a" / "defects", split="all").folder
    assert kept.name == "defects-all-3"
    assert (folders[0] / "metrics.json").read_text() == "damaged"


def test_model_folder_around_the_data_is_refused(defects: Path) -> None:
    with pytest.raises(OutputError, match="would replace the data"):
        taxon.train(defects, out=defects.parent, weights="none", overwrite=True)
    assert (defects / "good").is_dir()


def test_models_below_the_data_are_no_data(run: Path, defects: Path, copy_of: Any) -> None:
    data = copy_of(defects)
    (data / "runs").mkdir()
    shutil.copytree(run, data / "runs" / "earlier")
    assert read_source(data).rows == tuple(
        replace(row, path=data / row.id) for row in read_source(defects).rows
    )


def test_evaluating_elsewhere_leaves_the_runs_own_figures(
    run: Path, defects: Path, copy_of: Any
) -> None:
    copy = copy_of(run)
    before = (copy / "metrics.json").read_bytes()
    result = taxon.load(copy).evaluate(defects)
    assert (copy / "metrics.json").read_bytes() == before
    assert result.folder == copy / "evaluations" / "defects"
    assert "were left out" in result.notes[0]
    seen = read_manifest(copy / "manifest.parquet")
    assert result.metrics.n == len(seen.part("test"))
    assert taxon.evaluate(copy, defects, split="all").metrics.n == len(seen)
    with pytest.raises(DataError, match="names no parts"):
        taxon.evaluate(copy, defects, split="val")


def test_early_errors_come_before_the_pictures_are_read(defects: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(ConfigError):
        taxon.train(defects, out=tmp_path / "x", model="no-such", listener=recorder)
    assert recorder.events == []


def test_clock_corrects_the_estimate_by_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("taxon.training.clock.time.perf_counter", lambda: now[0])
    clock = Clock([1.0] * 10)
    assert clock.seconds_left() == 10
    now[0] = 4.0  # two steps took four seconds instead of two
    clock.step()
    clock.step()
    assert clock.seconds_left() == pytest.approx(16)

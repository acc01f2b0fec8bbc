"""Distillation: the loss by its formula, students that follow their teacher, what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import taxon as command
from conftest import TINY_BACKBONE, exports_left_out
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, write_picture
from runs import history, require_same_run
from scipy.special import expit, log_softmax, rel_entr, softmax
from sklearn.metrics import f1_score

import taxon
from taxon.bundle import read_bundle
from taxon.config import AugmentConfig, DistillationConfig, LossConfig, load_config
from taxon.core.errors import BundleError, ConfigError, Interrupted, OutputError
from taxon.core.labels import LabelSpace, Task
from taxon.data import Columns, read_manifest
from taxon.decision import DecisionPolicy, calibrate
from taxon.inference import load_predictor
from taxon.inference.table import predict_table
from taxon.training import Event, Loading, Note, StepDone
from taxon.training.distillation import DistillationLoss, with_answers
from taxon.training.losses import build_loss
from taxon.training.mixing import mix

pytestmark = pytest.mark.usefixtures("without_export")

SMALL = {"model": TINY_BACKBONE, "recipe": "scratch", "weights": "none", "batch_size": 16}
# Two stages: from kept features, and from mixed pictures; repeats of rare classes; an average.
OVERRIDES = [
    "preprocessing.size=32",
    "stages=[{name: last, epochs: 2, unfrozen_blocks: 1, learning_rate: 0.003, mixing: false}, "
    "{name: all, epochs: 2, unfrozen_blocks: all, learning_rate: 0.003}]",
    "optimiser.ema=0.9",
    "augment.mixup=0.2",
]
EVERYTHING = SMALL | {"imbalance": "oversample"}


class Recorder:
    """Keeps what training tells."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def notes(self, start: str = "") -> list[str]:
        texts = [event.text for event in self.events if isinstance(event, Note)]
        return [text for text in texts if text.startswith(start)]


# The loss


@given(
    st.integers(0, 1000),
    st.integers(2, 6),
    st.floats(0, 1),
    st.floats(1, 20),
    st.sampled_from(["multiclass", "multilabel"]),
)
@settings(max_examples=100, deadline=None)
def test_loss_is_the_formula(
    seed: int, classes: int, share: float, temperature: float, task: Task
) -> None:
    rng = np.random.default_rng(seed)
    count = 5
    logits, theirs = rng.normal(0, 4, (2, count, classes))
    space = LabelSpace.flat(task, "abcdef"[:classes])
    if task == "multiclass":
        targets = rng.integers(0, classes, count)
        answers = softmax(theirs / temperature, axis=1)
        own = -log_softmax(logits, axis=1)[np.arange(count), targets]
        divergence = rel_entr(answers, softmax(logits / temperature, axis=1)).sum(axis=1)
    else:
        targets = rng.integers(-1, 2, (count, classes))
        answers = expit(theirs / temperature)
        known = targets >= 0
        counted = np.maximum(known.sum(axis=1), 1)
        student = expit(logits / temperature)
        both = rel_entr(answers, student) + rel_entr(1 - answers, 1 - student)
        divergence = (both * known).sum(axis=1) / counted
        own = np.where(targets == 1, np.logaddexp(0, -logits), np.logaddexp(0, logits))
        own = (own * known).sum(axis=1) / counted
    expected = (1 - share) * own + share * temperature**2 * divergence
    loss = DistillationLoss(build_loss(space), space, share, temperature)
    rows = with_answers(torch.from_numpy(targets), answers.astype(np.float32))
    values = loss(torch.tensor(logits, dtype=torch.float32), rows)
    # Float32: the divergence is a difference of two larger numbers.
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2e-6 * temperature**2)


def test_gradients_keep_their_size_at_any_temperature() -> None:
    """Hinton et al. 2015: T ** 2 makes up for gradients that shrink with it."""
    rng = np.random.default_rng(0)
    space = LabelSpace.flat("multiclass", "abcd")
    theirs, ours = rng.normal(0, 1, (2, 6, 4))
    for temperature in (1.0, 3.0, 50.0):
        answers = softmax(theirs / temperature, axis=1)
        logits = torch.tensor(ours, dtype=torch.float32, requires_grad=True)
        rows = with_answers(torch.zeros(6, dtype=torch.int64), answers.astype(np.float32))
        DistillationLoss(build_loss(space), space, 1.0, temperature)(logits, rows).sum().backward()
        expected = temperature * (softmax(ours / temperature, axis=1) - answers)
        np.testing.assert_allclose(logits.grad, expected, atol=1e-4)
    # In the limit, half the squared distance of the centred logits, by the number of classes.
    centred = [values - values.mean(axis=1, keepdims=True) for values in (ours, theirs)]
    np.testing.assert_allclose(expected, (centred[0] - centred[1]) / 4, atol=0.05)


def test_what_changes_the_labels_loss_leaves_the_teachers_term() -> None:
    rng = np.random.default_rng(1)
    logits = torch.tensor(rng.normal(0, 2, (8, 3)), dtype=torch.float32)
    targets = torch.from_numpy(rng.integers(0, 3, 8))
    space = LabelSpace.taxonomy([("x", "a"), ("x", "b"), ("y", "c")])
    rows = with_answers(targets, softmax(rng.normal(0, 2, (8, 3)), axis=1).astype(np.float32))
    plain = DistillationLoss(build_loss(space), space, 1.0, 2.0)(logits, rows)
    for config in (LossConfig(label_smoothing=0.2), LossConfig(taxonomy="levels")):
        labels = build_loss(space, config=config)
        torch.testing.assert_close(DistillationLoss(labels, space, 1.0, 2.0)(logits, rows), plain)
        half = DistillationLoss(labels, space, 0.5, 2.0)(logits, rows)
        torch.testing.assert_close(half, (labels(logits, targets) + plain) / 2)


def test_a_student_that_answers_as_its_teacher_has_no_loss() -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    for task in ("multiclass", "multilabel"):
        space = LabelSpace.flat(task, "abcde")
        policy = DecisionPolicy.default(space).at_temperature(3.0)
        targets = torch.zeros((7,) if task == "multiclass" else (7, 5), dtype=torch.int64)
        rows = with_answers(targets, calibrate(logits.numpy(), policy, task))
        values = DistillationLoss(build_loss(space), space, 1.0, 3.0)(logits, rows)
        assert values.abs().max() < 1e-5


def test_mixed_pictures_have_mixed_answers() -> None:
    answers = softmax(np.random.default_rng(0).normal(size=(6, 6)), axis=1).astype(np.float32)
    # Each picture is its own class and its own channel, which tells how much of it is there.
    images = torch.eye(6).view(6, 6, 1, 1).expand(6, 6, 4, 4)
    rows = with_answers(torch.arange(6), answers)
    generator = torch.Generator().manual_seed(0)
    mixed, soft, _ = mix(
        images, rows, torch.ones(6), 6, AugmentConfig(mixup=1.0), generator, "multiclass"
    )
    proportions = mixed.mean(dim=(2, 3))
    assert not torch.equal(proportions, torch.eye(6))
    torch.testing.assert_close(soft[:, :6], proportions)
    torch.testing.assert_close(soft[:, 6:], proportions @ torch.from_numpy(answers))


def test_calibrated_logits_are_divided_by_the_temperature() -> None:
    space = LabelSpace.flat("multiclass", "ab")
    policy = DecisionPolicy.default(space).model_copy(update={"scale": (0.5, 0.5)})
    logits = np.array([[4.0, 0.0]], np.float32)
    biased = policy.with_bias([0.0, 1.0]).at_temperature(2.0)
    np.testing.assert_allclose(calibrate(logits, biased, "multiclass"), softmax([[1.0, 0.5]], 1))


# Whole runs


def _colours(folder: Path, count: int, labels: Callable[[int], int], seed: int) -> Path:
    """Noisy pictures whose colour is their number modulo 3, under the labels of a function."""
    rng = np.random.default_rng(seed)
    lines = ["path,label"]
    for number in range(count):
        pixels = rng.integers(0, 120, (32, 32, 3))
        pixels[..., number % 3] += 110
        (folder / f"{number:03d}.png").write_bytes(encode(pixels.astype(np.uint8)))
        lines.append(f"{number:03d}.png,class{labels(number)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder / "labels.csv"


@dataclass(frozen=True)
class Colours:
    """A teacher that tells three colours apart, and other such pictures under labels by chance.

    Attributes:
        noisy, fresh: tables; the labels of `fresh` are the colours.
    """

    teacher: Path
    noisy: Path
    fresh: Path


COLOURS = SMALL | {
    "epochs": 8,
    "overrides": ["preprocessing.size=32", "split.validation=0", "split.test=0"],
}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Colours:
    noise = np.random.default_rng(3).integers(0, 3, 60)
    folders = [tmp_path_factory.mktemp(name) for name in ("teaching", "noisy", "fresh")]
    teaching = _colours(folders[0], 60, lambda number: number % 3, seed=0)
    noisy = _colours(folders[1], 60, lambda number: int(noise[number]), seed=1)
    fresh = _colours(folders[2], 60, lambda number: number % 3, seed=2)
    with exports_left_out():
        out = tmp_path_factory.mktemp("teacher") / "run"
        return Colours(taxon.train(teaching, out=out, **COLOURS).path, noisy, fresh)


def test_a_student_learns_what_its_teacher_knows_where_labels_say_nothing(
    colours: Colours, tmp_path: Path
) -> None:
    alone = taxon.train(colours.noisy, out=tmp_path / "alone", **COLOURS)
    overrides = [*COLOURS["overrides"], "distillation.share=0.9"]
    taught = taxon.train(
        colours.noisy,
        out=tmp_path / "taught",
        teacher=colours.teacher,
        **(COLOURS | {"overrides": overrides}),
    )
    top1 = [
        taxon.evaluate(path, colours.fresh, out=tmp_path / f"{number}").metrics.top1.value
        for number, path in enumerate((colours.teacher, taught.path, alone.path))
    ]
    assert top1[0] == 1.0
    assert top1[1] >= 0.95
    assert top1[2] <= 0.6


@pytest.mark.slow
def test_with_a_share_of_nothing_nothing_changes(defects: Path, run: Path, tmp_path: Path) -> None:
    alone = taxon.train(defects, out=tmp_path / "alone", overrides=OVERRIDES, **EVERYTHING).path
    overrides = [*OVERRIDES, "distillation.share=0"]
    taught = taxon.train(
        defects, out=tmp_path / "taught", teacher=run, overrides=overrides, **EVERYTHING
    ).path
    require_same_run(taught, alone)


@pytest.fixture(scope="module")
def student(defects: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of `run`, trained in one go; not exported."""
    with exports_left_out():
        out = tmp_path_factory.mktemp("student") / "run"
        return taxon.train(defects, out=out, teacher=run, overrides=OVERRIDES, **EVERYTHING).path


class StopAt:
    """Sends this process a signal at the first event of a kind that comes after `skip` others."""

    def __init__(self, kind: type[Event], skip: int = 0, after: str = "") -> None:
        self.kind, self.left, self.after = kind, skip, after
        self.armed = not after

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note) and self.after and event.text.startswith(self.after):
            self.armed = True
        if self.armed and isinstance(event, self.kind):
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            self.left -= 1


@pytest.mark.slow
def test_stopped_while_the_teacher_answers_it_goes_on_from_another_folder(
    defects: Path, run: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.chdir(run.parent)
    with pytest.raises(Interrupted, match=r"taxon train --resume .*run"):
        taxon.train(
            defects,
            out=out,
            teacher=run.name,
            overrides=OVERRIDES,
            listener=StopAt(Loading, after="teacher"),
            **EVERYTHING,
        )
    assert not list((out / "checkpoints").glob("teacher*"))
    monkeypatch.chdir(tmp_path)
    require_same_run(taxon.resume(out).path, student)


@pytest.mark.parametrize(
    "steps", [21, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (0, 40))]
)
def test_stopped_while_it_trains_it_goes_on_without_the_teacher(
    steps: int,
    defects: Path,
    run: Path,
    student: Path,
    tmp_path: Path,
    copy_of: Callable[..., Path],
) -> None:
    teacher, out = copy_of(run), tmp_path / "student"
    with pytest.raises(Interrupted):
        taxon.train(
            defects,
            out=out,
            teacher=teacher,
            overrides=OVERRIDES,
            listener=StopAt(StepDone, steps),
            **EVERYTHING,
        )
    teacher.rename(tmp_path / "elsewhere")
    recorder = Recorder()
    taxon.resume(out, listener=recorder)
    require_same_run(out, student)
    notes = read_bundle(out).info.provenance.notes
    assert len([note for note in notes if note.startswith("teacher: ")]) == 2
    assert set(recorder.notes("teacher")) <= set(notes)


def test_notes_name_the_teacher(run: Path, student: Path) -> None:
    bundle, teacher = read_bundle(student), read_bundle(run)
    notes = [note for note in bundle.info.provenance.notes if note.startswith("teacher: ")]
    assert len(notes) == 2  # both had the same split, so there is no warning
    assert notes[0] == (
        f"teacher: {run} ({TINY_BACKBONE}, fingerprint {teacher.info.fingerprint}), "
        "50% of the loss at temperature 2"
    )
    config = DistillationConfig.model_validate(bundle.info.provenance.config["distillation"])
    assert config == DistillationConfig(teacher=str(run), share=0.5, temperature=2)


def test_the_teachers_score_is_that_of_the_validation_part(
    colours: Colours, tmp_path: Path
) -> None:
    options = SMALL | {"epochs": 1, "overrides": ["preprocessing.size=32", "split.validation=0.3"]}
    recorder, out = Recorder(), tmp_path / "run"
    taxon.train(colours.noisy, out=out, teacher=colours.teacher, listener=recorder, **options)
    validation = read_manifest(out / "manifest.parquet").part("validation")
    table = predict_table(load_predictor(colours.teacher), validation.records)
    predicted, targets = table.probabilities.argmax(axis=1), validation.targets()
    f1 = f1_score(targets, predicted, average="macro")
    assert recorder.notes("teacher: macro-F1") == [
        f"teacher: macro-F1 {f1:.3f}, top-1 {(predicted == targets).mean():.3f} on "
        f"{len(validation)} pictures of validation"
    ]


def test_a_teacher_that_was_trained_on_held_out_pictures_is_noticed(
    defects: Path, run: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    options = SMALL | {"epochs": 1, "seed": 1, "overrides": ["preprocessing.size=32"]}
    out = taxon.train(defects, out=tmp_path / "r", teacher=run, listener=recorder, **options).path
    seen = {row.sha256 for row in read_manifest(run / "manifest.parquet").part("train").records}
    parts = read_manifest(out / "manifest.parquet")
    counts = {
        part: sum(row.sha256 in seen for row in parts.part(part).records)
        for part in ("validation", "test")
    }
    assert all(counts.values())
    (note,) = recorder.notes("teacher: it was trained on pictures that are held out here")
    assert f"(validation {counts['validation']}, test {counts['test']})" in note


@pytest.mark.slow
def test_several_tags_with_an_artefact_alone_as_teacher(
    tags: Path, tags_run: Path, tmp_path: Path
) -> None:
    lines = (tags / "labels.csv").read_text().splitlines()
    # Of every other picture nobody knows whether it has a crack.
    gaps = [
        f"{line}|?crack" if number % 2 and "crack" not in line else line
        for number, line in enumerate(lines[1:])
    ]
    table = tmp_path / "gaps.csv"
    table.write_text("\n".join([lines[0], *gaps]))
    options = SMALL | {
        "epochs": 2,
        "columns": Columns(image_root=tags),
        "overrides": ["preprocessing.size=32", "augment.mixup=0.2"],
    }
    recorder, artefact = Recorder(), tags_run / "artefacts" / "onnx"
    out = taxon.train(
        table, out=tmp_path / "r", teacher=artefact, listener=recorder, **options
    ).path
    assert recorder.notes("teacher: an artefact alone does not tell")
    assert any("mAP" in note for note in recorder.notes("teacher: macro-F1"))
    alone = taxon.train(table, out=tmp_path / "alone", **options).path
    losses = [history(path)[0]["train_loss"] for path in (out, alone)]
    assert np.isfinite(losses).all() and losses[0] != losses[1]


def test_a_taxonomy_with_a_solved_head(surfaces: Path, surfaces_run: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    taxon.train(
        surfaces,
        out=tmp_path / "r",
        teacher=surfaces_run,
        recipe="finetune",
        model=TINY_BACKBONE,
        weights="none",
        epochs=2,
        overrides=["preprocessing.size=32", "loss.taxonomy=levels"],
        listener=recorder,
    )
    assert recorder.notes("teacher: the stage 'head' is solved for from the labels alone")


# What is refused


def _refused(
    error: type[Exception], match: str, data: Path, teacher: Path, folder: Path, **options: object
) -> None:
    recorder = Recorder()
    with pytest.raises(error, match=match):
        taxon.train(data, out=folder, teacher=teacher, listener=recorder, **(SMALL | options))
    assert not any(isinstance(event, Loading) for event in recorder.events)
    assert not folder.exists()


def test_a_wrong_teacher_is_refused_before_pictures_are_read(
    defects: Path, run: Path, tags_run: Path, surfaces_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _refused(ConfigError, "is multilabel, and these data are multiclass", defects, tags_run, out)
    classes = r"trained for other classes: it does not know '.*'.*, and it also knows '.*/.*' and"
    _refused(ConfigError, classes, defects, surfaces_run, out)
    _refused(BundleError, "teacher cannot be used: .* is neither a model", defects, tmp_path, out)
    absent = tmp_path / "absent"
    _refused(BundleError, "teacher cannot be used: .*absent", defects, absent, out)
    recipe = {"recipe": "probe"}
    _refused(ConfigError, "solved for from the labels alone", defects, run, out, **recipe)
    shift = {"imbalance": "balanced-softmax"}
    _refused(ConfigError, "'balanced-softmax' moves the student's", defects, run, out, **shift)


def test_a_class_more_or_less_is_named(defects: Path, run: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    names = sorted(folder.name for folder in defects.iterdir() if folder.is_dir())
    for name in names[1:]:
        (fewer / name).symlink_to(defects / name)
    _refused(ConfigError, f"it also knows '{names[0]}'", fewer, run, tmp_path / "out")
    (fewer / names[0]).symlink_to(defects / names[0])
    (fewer / "zebra").mkdir()
    for number in range(3):
        write_picture(fewer / "zebra" / f"{number}.png", number)
    _refused(ConfigError, "it does not know 'zebra'", fewer, run, tmp_path / "out")


def test_a_run_does_not_replace_its_teacher(
    defects: Path, run: Path, copy_of: Callable[..., Path]
) -> None:
    teacher = copy_of(run)
    for path in (teacher, teacher / "artefacts" / "onnx"):
        with pytest.raises(OutputError, match="would replace its teacher"):
            taxon.train(defects, out=teacher, teacher=path, overwrite=True, **SMALL)
    read_bundle(teacher)
    assert not (teacher / "checkpoints").exists()


def test_settings_of_a_teacher_without_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'share' belongs to a teacher; add --teacher RUN"):
        load_config("staged", overrides=["distillation.share=0.9"])
    for wrong in ("share=1.1", "temperature=0.5"):
        with pytest.raises(ConfigError, match=r"distillation\."):
            load_config("staged", overrides=["distillation.teacher=x", f"distillation.{wrong}"])


def test_the_command(
    defects: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(
        *("train", defects, "--out", "small", "--teacher", os.path.relpath(run, tmp_path)),
        *("--model", TINY_BACKBONE, "--weights", "none", "--epochs", "1"),
        *("--set", "preprocessing.size=32", "--set", "distillation.temperature=4"),
    )
    assert done.returncode == 0, done.stderr
    assert "50% of the loss at temperature 4" in done.stderr
    picture = next((defects / "crack").iterdir())
    assert taxon.load(tmp_path / "small").predict(picture).error is None
    done = command("train", defects, "--out", tmp_path / "again", "--teacher", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr

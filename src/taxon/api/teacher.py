"""The teacher of a distillation: opened and checked early, asked once, its answers kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from taxon.api.workspace import Workspace
from taxon.bundle.hub import is_hub_name, local_folder
from taxon.bundle.layout import BUNDLE_FILE, MANIFEST_FILE
from taxon.config import TrainConfig
from taxon.core.errors import BundleError, ConfigError, Interrupted, OutputError
from taxon.core.files import atomic_file
from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray, PredictionTable
from taxon.core.text import counted, some
from taxon.data import Manifest, read_manifest
from taxon.data.imbalance import LIKELIHOOD_SHIFTS
from taxon.data.manifest import Split
from taxon.decision import calibrate
from taxon.inference import Predictor, load_predictor
from taxon.inference.table import predict_table
from taxon.metrics import headline
from taxon.preprocessing import Preprocessing
from taxon.training import Listener, Loading, Note
from taxon.training.signals import StopSignals

ANSWERS_FILE = "teacher.safetensors"
HELD_OUT: tuple[Split, ...] = ("validation", "calibration", "test")
_PICTURES_AT_ONCE = 64
_ANSWERS, _NOTES = "answers", "notes"


@dataclass(frozen=True)
class Teacher:
    """A model that answers; its classes are those of the data."""

    path: Path
    predictor: Predictor


@dataclass(frozen=True)
class Answers:
    """What a teacher says.

    Attributes:
        probabilities: float32 [N, C], calibrated, at the temperature of the run, of the pictures
            of the training part.
        notes: who it is and how good, in plain sentences.
    """

    probabilities: FloatArray
    notes: tuple[str, ...]


def require_distillable(config: TrainConfig) -> None:
    """Refuse what has no meaning with a teacher.

    Raises:
        ConfigError: no stage that a teacher would change; a strategy that reads class frequency
            into the softmax.
    """
    if config.distillation.teacher is None:
        return
    stepped = [stage for stage in config.stages if stage.epochs and stage.method == "gradient"]
    if all(stage.trial for stage in stepped):
        raise ConfigError(
            f"recipe {config.recipe}: the head is solved for from the labels alone"
            f"{', unless a trial finds that more pays' if stepped else ''}, and a teacher would "
            "change nothing; take --recipe staged or finetune, or leave --teacher out"
        )
    shifts = [name for name in config.imbalance.strategy if name in LIKELIHOOD_SHIFTS]
    if shifts:
        raise ConfigError(
            f"'{shifts[0]}' moves the student's probabilities by class frequency, and the "
            "teacher's would be followed as they are: the two pull against each other. Train the "
            f"teacher with {shifts[0]}, or take with --teacher one of: auto, none, "
            "weighted-sampler, focal, class-weights, oversample"
        )


def open_teacher(workspace: Workspace, space: LabelSpace, device: str) -> Teacher | None:
    """Load the teacher of a run; None without one, and where its answers are there already.

    Raises:
        OutputError: the run would replace it.
        BundleError: it cannot be loaded.
        ConfigError: it is for another task or for other classes.
    """
    request = workspace.request
    teacher = request.config.distillation.teacher
    if teacher is None or _file(workspace).is_file():
        return None
    path = local_folder(teacher) if is_hub_name(teacher) else request.folder / teacher
    if path.resolve().is_relative_to(workspace.run.resolve()):
        raise OutputError(
            f"the model folder {workspace.run} would replace its teacher; choose another --out"
        )
    # The ONNX artefact runs on the processor; on a GPU the bundle itself is faster.
    on_gpu = device != "cpu" and (path / BUNDLE_FILE).is_file()
    try:
        predictor = load_predictor(path, backend="torch" if on_gpu else "auto", device=device)
    except BundleError as error:
        raise BundleError(f"the teacher cannot be used: {error}") from error
    _require_same_classes(path, predictor.spec.label_space, space)
    return Teacher(path, predictor)


def ask_teacher(
    teacher: Teacher | None,
    workspace: Workspace,
    manifest: Manifest,
    preprocessing: Preprocessing,
    listener: Listener,
) -> Answers | None:
    """Ask the teacher of every training picture, once: a run that goes on reads the answers.

    Args:
        preprocessing: of the student; which files can be read is as it says, size and framing
            are the teacher's own.
        listener: told the notes and the progress.

    Raises:
        BundleError: its answers are not numbers.
        ImageError: a picture cannot be read any more.
        Interrupted: a signal asked for a stop.
    """
    if workspace.request.config.distillation.teacher is None:
        return None
    if teacher is None:
        answers = _load(_file(workspace))
        for note in answers.notes:
            listener(Note(note))
        return answers
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        listener(Note(text))

    config, spec = workspace.request.config, teacher.predictor.spec
    for sentence in (*_who(teacher, config), _seen(teacher, manifest)):
        if sentence:
            tell(sentence)
    train, validation = manifest.part("train"), manifest.part("validation")
    asked = Manifest((*train.records, *validation.records), manifest.label_space, manifest.root)
    with StopSignals() as stop:
        table = _predict(_reading_as(preprocessing, teacher.predictor), asked, listener, stop)
        count = len(train)
        if len(validation):
            tell(_score(table.probabilities[count:], validation))
        policy = spec.policy.at_temperature(config.distillation.temperature)
        soft = calibrate(table.logits[:count], policy, spec.label_space.task)
        answers = Answers(soft, tuple(notes))
        _save(answers, _file(workspace))
        if stop():
            raise Interrupted("stopped")
    return answers


def _file(workspace: Workspace) -> Path:
    return workspace.checkpoints / ANSWERS_FILE


def _require_same_classes(path: Path, theirs: LabelSpace, ours: LabelSpace) -> None:
    """The names of a label space are sorted: equal sets are in equal order."""
    if theirs.task != ours.task:
        raise ConfigError(
            f"the teacher {path} is {theirs.task}, and these data are {ours.task}; name a teacher "
            "that was trained for the same task"
        )
    missing = [name for name in ours.names if name not in theirs.names]
    extra = [name for name in theirs.names if name not in ours.names]
    if missing or extra:
        said = [
            *([f"it does not know {some(missing)}"] if missing else []),
            *([f"it also knows {some(extra)}"] if extra else []),
        ]
        raise ConfigError(
            f"the teacher {path} was trained for other classes: {', and '.join(said)}. Name a "
            "teacher with the same classes, or train one on these data"
        )


def _who(teacher: Teacher, config: TrainConfig) -> list[str]:
    """The teacher, how much it counts, and where it does not."""
    spec, settings = teacher.predictor.spec, config.distillation
    solved = [stage.name for stage in config.stages if stage.epochs and stage.method == "logistic"]
    return [
        f"teacher: {teacher.path} ({spec.backbone}, fingerprint {spec.fingerprint}), "
        f"{settings.share:.0%} of the loss at temperature {settings.temperature:g}",
        *(
            f"teacher: the stage '{name}' is solved for from the labels alone; the teacher counts "
            "in the other stages"
            for name in solved
        ),
    ]


def _seen(teacher: Teacher, manifest: Manifest) -> str:
    """Which held-out pictures of this run the teacher was trained on, in words."""
    file = teacher.path / MANIFEST_FILE
    if not file.is_file():
        published = (teacher.path / BUNDLE_FILE).is_file()
        kind = "a published model" if published else "an artefact alone"
        return (
            f"teacher: {kind} does not tell which pictures it was trained on; if some "
            "are held out here, the student's scores will be too good"
        )
    seen = {record.sha256 for record in read_manifest(file).part("train").records}
    counts = {
        part: sum(record.sha256 in seen for record in manifest.part(part).records)
        for part in HELD_OUT
    }
    if not any(counts.values()):
        return ""
    words = ", ".join(f"{part} {count}" for part, count in counts.items() if count)
    return (
        f"teacher: it was trained on pictures that are held out here ({words}): its scores and "
        "the student's will be too good. Train both on one split (taxon split DATA --out "
        "manifest.parquet)"
    )


def _reading_as(spec: Preprocessing, predictor: Predictor) -> Predictor:
    """The predictor, with what counts as a readable file taken from another spec."""
    reading = {"truncated": spec.truncated, "max_pixels": spec.max_pixels}
    preprocessing = predictor.spec.preprocessing.model_copy(update=reading)
    return Predictor(
        predictor.spec.model_copy(update={"preprocessing": preprocessing}), predictor.backend
    )


def _predict(
    predictor: Predictor, manifest: Manifest, listener: Listener, stop: StopSignals
) -> PredictionTable:
    records, tables = manifest.records, []
    for start in range(0, len(records), _PICTURES_AT_ONCE):
        if stop():
            raise Interrupted("stopped")
        tables.append(predict_table(predictor, records[start : start + _PICTURES_AT_ONCE]))
        listener(Loading(min(start + _PICTURES_AT_ONCE, len(records)), len(records)))
    logits = np.concatenate([table.logits for table in tables])
    if not np.isfinite(logits).all():
        raise BundleError("the teacher's answers are not numbers; name another teacher")
    return PredictionTable(
        ids=tuple(record.id for record in records),
        names=manifest.label_space.names,
        logits=logits,
        probabilities=np.concatenate([table.probabilities for table in tables]),
    )


def _score(probabilities: FloatArray, validation: Manifest) -> str:
    """The teacher's figures as those of the student's epochs are made."""
    scores = headline(validation.label_space.task, validation.targets(), probabilities)
    words = {"macro_f1": "macro-F1", "top1": "top-1", "mAP": "mAP"}
    figures = ", ".join(f"{words[name]} {value:.3f}" for name, value in scores.items())
    return f"teacher: {figures} on {counted(len(validation), 'picture', 'pictures')} of validation"


def _save(answers: Answers, path: Path) -> None:
    with atomic_file(path) as temporary:
        try:
            save_file(
                {_ANSWERS: answers.probabilities}, temporary, {_NOTES: json.dumps(answers.notes)}
            )
        except SafetensorError as error:  # a full disk, among others; it is no OSError
            raise OutputError(f"cannot write {path}: {error}") from error


def _load(path: Path) -> Answers:
    try:
        with safe_open(path, framework="np") as file:
            notes = json.loads((file.metadata() or {})[_NOTES])
            return Answers(file.get_tensor(_ANSWERS), tuple(notes))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BundleError(
            f"{path} is damaged ({error}); start anew with `taxon train DATA --out RUN --overwrite`"
        ) from error

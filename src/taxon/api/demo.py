"""The demo: the whole path on generated pictures, each step by the verb that a user calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from taxon.api.evaluation import evaluate
from taxon.api.inspection import PAGE_FILE, audit
from taxon.api.model import Model
from taxon.api.prediction import predict
from taxon.api.training import train
from taxon.api.verifying import verify
from taxon.auditing import text_lines
from taxon.bundle.layout import MANIFEST_FILE, REPORT_FILE, WEIGHTS_FILE
from taxon.core.files import require_free
from taxon.core.predictions import Prediction
from taxon.data import read_manifest
from taxon.data.samples import SampleKind, generate_samples
from taxon.evaluation import summary_rows
from taxon.models.stack import require_torch_stack
from taxon.models.zoo import DEFAULT_FROM_SCRATCH
from taxon.training import Listener

Say = Callable[[str], None]
Display = Callable[[], AbstractContextManager[Listener]]

KINDS: tuple[SampleKind, ...] = ("taxonomy", "defects")
SHOWN_PREDICTIONS = 5
# What a quick demo makes do with: the whole path in about a minute on two cores.
QUICK_EPOCHS = 4
QUICK_PICTURES = 180
QUICK_SIZE = 64  # pixels
NO_FIGURES = "a check of the installation, whose figures say nothing of what taxon can do"
# A tiny network wants higher learning rates than the recipe's, which are for large ones.
TINY_STAGES = (
    "stages=["
    "{name: head, epochs: 5, unfrozen_blocks: 0, learning_rate: 0.005},"
    "{name: last 2 blocks, epochs: 10, unfrozen_blocks: 2, learning_rate: 0.005},"
    "{name: all, epochs: 10, unfrozen_blocks: all, learning_rate: 0.005, schedule: cosine}]",
    "optimiser.gradient_clip=1.0",
    "augment.crop_scale=0.7",
)


@dataclass(frozen=True)
class Scene:
    """Where the demo speaks.

    Attributes:
        heading, say: show a heading or a line.
        display: opens the display of a training run.
    """

    heading: Say
    say: Say
    display: Display


def run_demo(out: Path, scene: Scene, *, quick: bool = False, overwrite: bool = False) -> Model:
    """Generate data, pretrain, audit, fine-tune, evaluate, verify, predict; say what comes next.

    Args:
        out: gets `taxonomy`, `defects` (data), `audit`, `backbone` and `model` (model folders).
        quick: few and small pictures, few epochs; the figures mean nothing then.

    Raises:
        OutputError: `out` holds something, and `overwrite` is off.
    """
    start = time.perf_counter()
    if not overwrite:
        require_free(out, replace_if=None)
    require_torch_stack()
    scene.heading("1. Sample data: surfaces in two levels, and surfaces with defects")
    if quick:
        scene.say(f"quick: {QUICK_PICTURES} pictures of {QUICK_SIZE} px each; {NO_FIGURES}")
    less = {"count": QUICK_PICTURES, "size": QUICK_SIZE} if quick else {}
    for kind in KINDS:
        counts = generate_samples(kind, out / kind, overwrite=True, **less)
        scene.say(f"{out / kind}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    model = _train(out, scene, quick=quick)
    _measure(model, out / "defects", scene)
    scene.heading(f"Done in {time.perf_counter() - start:.0f} s")
    if quick:
        scene.say(f"It was {NO_FIGURES}; without --quick they do")
    scene.say(f"report: {model.path / REPORT_FILE}")
    scene.say(f"Next:\n  taxon serve {model.path}\n  taxon train YOUR_FOLDER")
    return model


def _train(out: Path, scene: Scene, *, quick: bool) -> Model:
    """Pretrain on the taxonomy, look at the defects, and fine-tune on them."""
    epochs = QUICK_EPOCHS if quick else None
    overrides = (f"preprocessing.size={QUICK_SIZE}",) if quick else ()
    scene.heading("2. Pretrain a small backbone on the surfaces, from random weights")
    with scene.display() as listener:
        train(
            out / "taxonomy",
            out=out / "backbone",
            model=DEFAULT_FROM_SCRATCH,
            weights="none",
            epochs=epochs,
            overrides=overrides,
            overwrite=True,
            listener=listener,
            command="taxon demo",
        )
    scene.heading("3. Audit the defects: what is wrong with the data?")
    report = audit(
        out / "defects",
        out=out / "audit",
        model=DEFAULT_FROM_SCRATCH,
        weights=out / "backbone" / WEIGHTS_FILE,
        overwrite=True,
    )
    for line in text_lines(report):
        scene.say(line)
    scene.say(f"page: {out / 'audit' / PAGE_FILE}")
    scene.heading("4. Split, and fine-tune the backbone on the defects, in three stages")
    with scene.display() as listener:
        return train(
            out / "defects",
            out=out / "model",
            model=DEFAULT_FROM_SCRATCH,
            weights=out / "backbone" / WEIGHTS_FILE,
            recipe="staged",
            epochs=epochs,
            overrides=(*TINY_STAGES, *overrides),
            overwrite=True,
            listener=listener,
            command="taxon demo",
        )


def _measure(model: Model, data: Path, scene: Scene) -> None:
    """Evaluate, verify and predict."""
    scene.heading("5. Evaluate on the test part")
    for name, value, interval in summary_rows(evaluate(model.path).metrics):
        scene.say(f"{name:30} {value:>10}   {interval}")

    scene.heading("6. Verify the exported ONNX on the golden pictures and on the defects")
    for report in verify(model.path, data=data):
        scene.say(report.sentence())

    scene.heading("7. Predict a few pictures of the test part")
    test = read_manifest(model.path / MANIFEST_FILE).part("test")
    step = max(1, len(test) // SHOWN_PREDICTIONS)
    records = test.records[::step][:SHOWN_PREDICTIONS]
    answers = predict(model.path, [record.path for record in records])
    for record, answer in zip(records, answers, strict=True):
        scene.say(f"{record.id:24} {_words(answer)}")


def _words(answer: Prediction) -> str:
    if answer.label is None:
        return answer.error or "no answer"
    return f"{answer.label} {answer.confidence:.2f}"

"""The demo: the whole path on generated pictures, each step by the verb that a user calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from taxon.api.evaluation import evaluate
from taxon.api.exporting import verify
from taxon.api.model import Model
from taxon.api.prediction import predict
from taxon.api.sampling import sample_data
from taxon.api.training import train
from taxon.bundle.layout import MANIFEST_FILE, WEIGHTS_FILE
from taxon.core.files import require_free
from taxon.core.predictions import Prediction
from taxon.data import read_manifest
from taxon.evaluation import summary_rows
from taxon.models.stack import require_torch_stack
from taxon.models.zoo import DEFAULT_FROM_SCRATCH
from taxon.training import Listener

Say = Callable[[str], None]
Display = Callable[[], AbstractContextManager[Listener]]

SHOWN_PREDICTIONS = 5
QUICK_EPOCHS = 4
# A tiny network wants higher learning rates than the recipe's, which are for large ones.
TINY_STAGES = (
    "stages=["
    "{name: head, epochs: 5, unfrozen_blocks: 0, learning_rate: 0.005},"
    "{name: last 2 blocks, epochs: 10, unfrozen_blocks: 2, learning_rate: 0.005},"
    "{name: all, epochs: 10, unfrozen_blocks: all, learning_rate: 0.005, schedule: cosine}]",
    "gradient_clip=1.0",
    "augment.crop_scale=0.7",
)


def run_demo(
    out: Path,
    *,
    quick: bool,
    overwrite: bool,
    heading: Say,
    say: Say,
    display: Display,
) -> Model:
    """Generate data, pretrain, fine-tune, evaluate, verify, predict; say what to type next.

    Args:
        out: gets `taxonomy`, `defects` (data), `backbone` and `model` (model folders).
        quick: a few epochs only; the figures mean nothing then.
        heading, say: show a heading or a line.
        display: opens the display of a training run.

    Raises:
        OutputError: `out` holds something, and `overwrite` is off.
    """
    start = time.perf_counter()
    if not overwrite:
        require_free(out, replace_if=None)
    require_torch_stack()
    epochs = QUICK_EPOCHS if quick else None

    heading("1. Sample data: surfaces in two levels, and surfaces with defects")
    for kind in ("taxonomy", "defects"):
        counts = sample_data(kind, out / kind, overwrite=True)
        say(f"{out / kind}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))

    heading("2. Pretrain a small backbone on the surfaces, from random weights")
    with display() as listener:
        train(
            out / "taxonomy",
            out=out / "backbone",
            model=DEFAULT_FROM_SCRATCH,
            weights="none",
            epochs=epochs,
            overwrite=True,
            listener=listener,
            command="taxon demo",
        )

    heading("3. Audit, split and fine-tune it on the defects, in three stages")
    with display() as listener:
        model = train(
            out / "defects",
            out=out / "model",
            model=DEFAULT_FROM_SCRATCH,
            weights=out / "backbone" / WEIGHTS_FILE,
            recipe="staged",
            epochs=epochs,
            overrides=TINY_STAGES,
            overwrite=True,
            listener=listener,
            command="taxon demo",
        )

    heading("4. Evaluate on the test part")
    result = evaluate(model.path)
    for name, value, interval in summary_rows(result.metrics):
        say(f"{name:24} {value:>10}   {interval}")

    heading("5. Verify the exported ONNX on the golden pictures and on the defects")
    for report in verify(model.path, data=out / "defects"):
        say(report.sentence())

    heading("6. Predict a few pictures of the test part")
    test = read_manifest(model.path / MANIFEST_FILE).part("test")
    step = max(1, len(test) // SHOWN_PREDICTIONS)
    records = test.records[::step][:SHOWN_PREDICTIONS]
    answers = predict(model.path, [record.path for record in records])
    for record, answer in zip(records, answers, strict=True):
        say(f"{record.id:24} {_words(answer)}")

    heading(f"Done in {time.perf_counter() - start:.0f} s")
    say(f"report: {result.report}")
    say(f"Next:\n  taxon serve {model.path}\n  taxon train YOUR_FOLDER")
    return model


def _words(answer: Prediction) -> str:
    if answer.label is None:
        return answer.error or "no answer"
    return f"{answer.label} {answer.confidence:.2f}"

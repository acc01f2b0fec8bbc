"""How hard the sample data are: a linear classifier on raw pixels beside a trained network.

    python benchmarks/sample_data.py [--kinds defects,tags,taxonomy] [--transfer]

Both learn from the same training part and are scored on the same test part. The linear one sees
the picture shrunk to 32x32 RGB; its regularisation is chosen on validation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import taxon
from taxon.api.demo import TINY_STAGES
from taxon.bundle import read_bundle
from taxon.bundle.layout import WEIGHTS_FILE
from taxon.data import Manifest, read_manifest
from taxon.models.zoo import DEFAULT_FROM_SCRATCH

SIDE = 32
STRENGTHS = (1e-4, 1e-2, 1.0)


def pixels(manifest: Manifest) -> npt.NDArray[np.float64]:
    """Raw pixels, float [N, 3072]."""
    rows = []
    for record in manifest.records:
        with Image.open(record.path) as picture:
            rows.append(np.asarray(picture.convert("RGB").resize((SIDE, SIDE))).ravel())
    return np.stack(rows) / 255


def macro_f1(classifier: object, manifest: Manifest) -> float:
    """Macro-F1 of a scikit-learn classifier on a part."""
    predicted = classifier.predict(pixels(manifest))  # type: ignore[attr-defined]
    return float(f1_score(manifest.targets(), predicted, average="macro", zero_division=0))


def linear_macro_f1(manifest: Manifest) -> float:
    """Fit on train, choose on validation, score on test."""
    train = manifest.part("train")
    fitted = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=500)
        whole = model if train.label_space.task == "multiclass" else OneVsRestClassifier(model)
        fitted.append(make_pipeline(StandardScaler(), whole).fit(pixels(train), train.targets()))
    best = max(fitted, key=lambda model: macro_f1(model, manifest.part("validation")))
    return macro_f1(best, manifest.part("test"))


def transfer() -> None:
    """The demo's stages on `defects`: from a backbone pretrained on `taxonomy`, and from random."""
    print("| start | head | last 2 blocks | all | test |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("taxonomy", "defects"):
            taxon.sample_data(kind, folder / kind)
        backbone = taxon.train(folder / "taxonomy", out=folder / "backbone", weights="none")
        pretrained = backbone.path / WEIGHTS_FILE
        for start, weights in (("pretrained on `taxonomy`", pretrained), ("random", "none")):
            model = taxon.train(
                folder / "defects",
                out=folder / start.split()[0],
                model=DEFAULT_FROM_SCRATCH,
                weights=weights,
                recipe="staged",
                overrides=TINY_STAGES,
            )
            history = read_bundle(model.path).info.provenance.history
            scores = [history[epoch - 1]["macro_f1"] for epoch in (5, 15, 25)]
            test = model.evaluate().metrics.macro_f1.value
            print(f"| {start} | {' | '.join(f'{score:.2f}' for score in scores)} | {test:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="defects,tags,taxonomy")
    parser.add_argument("--transfer", action="store_true")
    options = parser.parse_args()
    if options.transfer:
        transfer()
        return
    print("| set | linear on raw pixels, macro-F1 | trained network, macro-F1 | training, s |")
    print("|---|---|---|---|")
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            taxon.sample_data(kind, folder / "data")
            start = time.perf_counter()
            model = taxon.train(folder / "data", out=folder / "run", weights="none")
            seconds = time.perf_counter() - start
            metrics = model.evaluate().metrics
            linear = linear_macro_f1(read_manifest(folder / "run" / "manifest.parquet"))
            low, high = metrics.macro_f1.ci95 or (float("nan"),) * 2
            print(
                f"| `{kind}` | {linear:.2f} | {metrics.macro_f1.value:.2f} "
                f"({low:.2f} to {high:.2f}) | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

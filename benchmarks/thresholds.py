"""Thresholds of tags fitted on few pictures: ours, the labels' best, and one half.

    python benchmarks/thresholds.py --data FOLDER/deeppcb_multilabel --weights model.safetensors

A model (recipe `probe`) is trained on half of the set. Of the other half, 100 times, some pictures
at random calibrate and all others test: macro-F1 of the three, from the same calibrated
probabilities, and how often a way does worse than one half. The rival takes for every tag the
threshold with the highest F1 on the calibrating pictures, as scikit-learn's
TunedThresholdClassifierCV(scoring="f1") does for a classifier that is fitted already.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score

import taxon
from taxon.bundle import read_bundle
from taxon.config.decision import DecisionConfig
from taxon.data import Columns, read_manifest
from taxon.decision import DecisionPolicy, calibrate
from taxon.decision.fit import fit_policy
from taxon.decision.fitting.f1_thresholds import best_f1_threshold
from taxon.decision.fitting.part import CalibrationPart

BACKBONE = "tf_mobilenetv3_small_100"
SIZES = (40, 80, 120)
REPEATS = 100
WAYS = ("one half", "labels", "taxon")
Scores = dict[str, list[float]]


def halved(source: Path, folder: Path) -> Path:
    """The set's table: half trains (and a tenth of that validates), half is left."""
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rng = np.random.default_rng(0)
    for row in rows:
        chance = rng.random()
        row["split"] = "test" if chance < 0.5 else "val" if chance < 0.55 else "train"
    path = folder / "halved.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def macro_f1(part: CalibrationPart, policy: DecisionPolicy, thresholds: tuple[float, ...]) -> float:
    """Of the part's pictures, by the policy's probabilities."""
    named = calibrate(part.logits, policy, "multilabel") >= np.float32(thresholds)
    return float(f1_score(part.targets, named, average="macro", zero_division=0.0))


def repeated(part: CalibrationPart, count: int) -> Scores:
    """Macro-F1 of each way on what did not calibrate."""
    config = DecisionConfig(out_of_scope="none")
    found: Scores = {way: [] for way in WAYS}
    for seed in range(REPEATS):
        rows: npt.NDArray[np.intp] = np.random.default_rng(seed).permutation(len(part))
        fitted_on, rest = part.select(rows[:count]), part.select(rows[count:])
        policy = fit_policy(fitted_on, config).policy
        probabilities = calibrate(fitted_on.logits, policy, "multilabel")
        best = tuple(map(best_f1_threshold, fitted_on.targets.T, probabilities.T))
        for way, thresholds in zip(
            WAYS, ((0.5,) * len(best), best, policy.thresholds), strict=True
        ):
            found[way].append(macro_f1(rest, policy, thresholds))
    return found


def main() -> None:
    """Train once, then print a row for each number of calibrating pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    given = parser.parse_args()
    source = given.data.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = taxon.train(
            halved(source / "labels.csv", folder),
            out=folder / "run",
            model=BACKBONE,
            weights=given.weights,
            recipe="probe",
            device="cpu",
            columns=Columns(image_root=source),
        ).path
        found = taxon.evaluate(run, explain=False)
        targets = read_manifest(run / "manifest.parquet").part("test").targets()
        space = read_bundle(run).spec.label_space
    part = CalibrationPart("half", found.table.logits, targets, space, np.arange(len(targets)))
    print("| pictures that calibrate | " + " | ".join(WAYS) + " | worse than one half |")
    print("|---" * (len(WAYS) + 2) + "|")
    for count in SIZES:
        scores = {way: np.array(values) for way, values in repeated(part, count).items()}
        worse = {way: int((scores[way] < scores["one half"]).sum()) for way in WAYS[1:]}
        print(
            f"| {count} of {len(part)} | "
            + " | ".join(f"{100 * scores[way].mean():.1f} %" for way in WAYS)
            + f" | labels {worse['labels']}, taxon {worse['taxon']} of {REPEATS} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

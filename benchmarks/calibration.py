"""Does the temperature lower the calibration error? Pooled over folds, so that chance is small.

    python benchmarks/calibration.py --data FOLDER/clothing10 --weights model.safetensors \
        [--recipe probe] [--seeds 2]

For each seed the set (both of its parts) is divided into five folds; each is held out once, and of
the rest a quarter calibrates, 15 % choose the epoch. Before and after are the same answers, without
and with the policy of their fold. The interval of the difference is a paired bootstrap over
pictures; "by chance" is what a perfectly calibrated classifier would show on as many answers.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold

import taxon
from taxon.bundle import read_bundle
from taxon.core.predictions import FloatArray
from taxon.data import Columns, read_manifest
from taxon.decision import DecisionPolicy, calibrate
from taxon.metrics import calibration_error_by_chance, expected_calibration_error, log_loss

BACKBONE = "tf_mobilenetv3_small_100"
VALIDATION, CALIBRATION = 0.15, 0.25
FOLDS = 5
RESAMPLES = 1000
HEADINGS = ("answers", "temperatures", "ECE", "difference (95 %)", "by chance", "log loss")


@dataclass(frozen=True)
class Answers:
    """Held-out answers: probabilities [N, C] without and with the policy, and the truth, [N]."""

    before: FloatArray
    after: FloatArray
    targets: npt.NDArray[np.int64]
    temperatures: tuple[float, ...]

    @classmethod
    def together(cls, parts: Sequence[Answers]) -> Answers:
        """Pool the answers of folds."""
        return cls(
            np.concatenate([part.before for part in parts]),
            np.concatenate([part.after for part in parts]),
            np.concatenate([part.targets for part in parts]),
            tuple(value for part in parts for value in part.temperatures),
        )

    def row(self) -> str:
        """A row of the table."""
        before, after = ece(self.targets, self.before), ece(self.targets, self.after)
        low, high = self.interval()
        chance = calibration_error_by_chance(self.targets, self.after).ci95
        losses = [log_loss(self.targets, each).value for each in (self.before, self.after)]
        assert chance is not None
        cells = [
            f"{len(self.targets)}",
            ", ".join(f"{value:.2f}" for value in self.temperatures),
            f"{100 * before:.1f} % -> {100 * after:.1f} %",
            f"{100 * (after - before):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            f"{100 * chance[0]:.1f} to {100 * chance[1]:.1f} %",
            " -> ".join(f"{loss:.3f}" for loss in losses),
        ]
        return " | ".join(cells)

    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the difference of the ECE, after less before, over resamples."""
        rng = np.random.default_rng(0)
        differences = []
        for _ in range(RESAMPLES):
            rows = rng.integers(0, len(self.targets), len(self.targets))
            truth = self.targets[rows]
            differences.append(ece(truth, self.after[rows]) - ece(truth, self.before[rows]))
        low, high = np.percentile(differences, [2.5, 97.5])
        return float(low), float(high)


def ece(targets: npt.NDArray[np.int64], probabilities: FloatArray) -> float:
    """The expected calibration error."""
    return expected_calibration_error(targets, probabilities).value or 0.0


def folds(source: Path, seed: int, folder: Path) -> list[Path]:
    """A table for each fold, in which it is the test."""
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = [row["label"] for row in rows]
    rng = np.random.default_rng(seed)
    found = []
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(splitter.split(labels, labels)):
        chances = rng.random(len(rows))
        for place, row in enumerate(rows):
            if chances[place] < VALIDATION:
                row["split"] = "val"
            else:
                calibrates = chances[place] < VALIDATION + CALIBRATION
                row["split"] = "calibration" if calibrates else "train"
        for place in held:
            rows[place]["split"] = "test"
        path = folder / f"{seed}-{number}.csv"
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found.append(path)
    return found


def answers(table: Path, source: Path, weights: Path, recipe: str, seed: int) -> Answers:
    """Train on a fold with the policy's defaults, and answer what it holds out."""
    run = taxon.train(
        table,
        out=table.with_suffix(""),
        model=BACKBONE,
        weights=weights,
        recipe=recipe,
        seed=seed,
        device="cpu",
        columns=Columns(image_root=source),
    ).path
    found = taxon.evaluate(run, explain=False)
    space = read_bundle(run).spec.label_space
    without = calibrate(found.table.logits, DecisionPolicy.default(space), space.task)
    targets = read_manifest(run / "manifest.parquet").part("test").targets()
    temperature = found.metrics.calibration.temperature
    assert temperature is not None
    return Answers(without, found.table.probabilities, targets, (temperature,))


def main() -> None:
    """Run every fold of every seed, and print a row a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", default="probe")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    source, weights = given.data.resolve(), given.weights.resolve()
    print(f"| {given.recipe}, seed | " + " | ".join(HEADINGS) + " |")
    print("|---" * (len(HEADINGS) + 1) + "|")
    with tempfile.TemporaryDirectory() as name:
        for seed in range(given.seeds):
            tables = folds(source / "labels.csv", seed, Path(name))
            parts = [answers(table, source, weights, given.recipe, seed) for table in tables]
            print(f"| {seed} | {Answers.together(parts).row()} |", flush=True)


if __name__ == "__main__":
    main()

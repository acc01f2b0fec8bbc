"""What the decision policy brings on pictures that it was not fitted on, on real sets.

    python benchmarks/policy.py --data FOLDER --weights model.safetensors [--seeds 3]

FOLDER holds the sets clothing10, deeppcb_multilabel and grocery_produce_hier. The `val` part of a
set is the test, which nothing is fitted on; a quarter of its `train` part calibrates, 15 % choose
the epoch. Before and after are the same predictions, without and with the policy, so that both
have the same chance. The rival of the out-of-scope score is the highest probability (Hendrycks &
Gimpel 2017), which needs no fit.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

import taxon
from taxon.api.evaluation import Evaluation
from taxon.core.labels import Task
from taxon.core.predictions import PredictionTable
from taxon.data import Columns, load_manifest
from taxon.decision import DecisionPolicy
from taxon.decision.scope import energy, standardised
from taxon.inference import load_predictor
from taxon.inference.table import predict_table

BACKBONE = "tf_mobilenetv3_small_100"
VALIDATION, CALIBRATION = 0.15, 0.25
Scores = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Options:
    """Where the sets and the weights lie, and the recipe."""

    data: Path
    weights: Path
    recipe: str


def divided(source: Path, seed: int, folder: Path) -> Path:
    """The set's table with parts of ours: its `val` is the test."""
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rng = np.random.default_rng(seed)
    for row in rows:
        chance = rng.random()
        if row["split"] != "train":
            row["split"] = "test"
        elif chance < VALIDATION:
            row["split"] = "val"
        elif chance < VALIDATION + CALIBRATION:
            row["split"] = "calibration"
    path = folder / f"{source.parent.name}-{seed}.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def evaluated(name: str, seed: int, options: Options, folder: Path) -> tuple[Path, Evaluation]:
    """Train with the policy's defaults, and measure on the test part."""
    source = options.data / name
    run = taxon.train(
        divided(source / "labels.csv", seed, folder),
        out=folder / f"{name}-{seed}",
        model=BACKBONE,
        weights=options.weights,
        recipe=options.recipe,
        seed=seed,
        device="cpu",
        columns=Columns(image_root=source),
    ).path
    return run, taxon.evaluate(run, explain=False)


def calibration(seeds: Sequence[int], options: Options, folder: Path) -> Path:
    """ECE, log loss, sets and abstention on clothing10; return the first run."""
    print("| clothing10, seed | temperature | ECE | log loss | coverage of sets (90 %) | size |")
    print("|---|---|---|---|---|---|")
    runs = []
    for seed in seeds:
        run, found = evaluated("clothing10", seed, options, folder)
        runs.append(run)
        figures = found.metrics.calibration
        before, sets = figures.uncalibrated, found.metrics.sets
        assert before is not None
        assert sets is not None
        print(
            f"| {seed} | {figures.temperature:.2f} | {percent(before.ece.value)} -> "
            f"{percent(figures.ece.value)} | {before.nll.value:.3f} -> {figures.nll.value:.3f} | "
            f"{percent(sets.coverage.value)} | {sets.size.value:.2f} |",
            flush=True,
        )
    return runs[0]


def thresholds(seeds: Sequence[int], options: Options, folder: Path) -> None:
    """Macro-F1 at one half and at the fitted thresholds on deeppcb_multilabel."""
    print(
        "\n| deeppcb_multilabel, seed | macro-F1 at 0.5 | at the fitted thresholds | thresholds |"
    )
    print("|---|---|---|---|")
    gains = []
    for seed in seeds:
        _, found = evaluated("deeppcb_multilabel", seed, options, folder)
        half, fitted = found.metrics.macro_f1_at_half.value, found.metrics.macro_f1.value
        assert half is not None
        assert fitted is not None
        gains.append(fitted - half)
        chosen = ", ".join(f"{row.threshold:.2f}" for row in found.metrics.per_class.values())
        print(f"| {seed} | {percent(half)} | {percent(fitted)} | {chosen} |", flush=True)
    print(f"\nMean gain: {100 * statistics.mean(gains):.1f} points")


def scope(run: Path, options: Options, folder: Path) -> None:
    """How well pictures of other sets are told from clothing10's test part."""
    predictor = load_predictor(run)
    policy, task = predictor.spec.policy, predictor.spec.label_space.task
    own = taxon.evaluate(run, explain=False, out=folder / "again").table
    inside = scores_of(own, policy, task)
    print("\n| pictures shown to the clothing model | " + " | ".join(inside) + " | flagged |")
    print("|---|" + "---|" * (len(inside) + 1))
    print(f"| its own test | {'| ' * len(inside)}| {flagged(own, policy)} |")
    for name in ("grocery_produce_hier", "deeppcb_multilabel", "magnetic_tile"):
        label = ("fine",) if name.startswith("grocery") else ()
        manifest = load_manifest(options.data / name / "labels.csv", Columns(label=label))
        table = predict_table(predictor, manifest.records)
        outside = scores_of(table, policy, task)
        areas = [f"{area(inside[key], outside[key]):.3f}" for key in inside]
        print(f"| {name} | {' | '.join(areas)} | {flagged(table, policy)} |", flush=True)


def scores_of(table: PredictionTable, policy: DecisionPolicy, task: Task) -> Scores:
    """The policy's score, its two parts, and the rival's."""
    assert table.scope is not None
    assert policy.scope is not None
    assert policy.scope.energy is not None
    assert policy.scope.nearest is not None
    of_energy = standardised(energy(table.logits, task), policy.scope.energy)
    return {
        "policy (both)": table.scope.astype(np.float64),
        "energy": of_energy,
        "nearest": table.scope - of_energy,
        "highest probability": table.probabilities.max(axis=1).astype(np.float64),
    }


def area(inside: npt.NDArray[np.float64], outside: npt.NDArray[np.float64]) -> float:
    """AUC-ROC of telling pictures inside from those outside."""
    truth = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    return float(roc_auc_score(truth, np.concatenate([inside, outside])))


def flagged(table: PredictionTable, policy: DecisionPolicy) -> str:
    """The share that the policy flags."""
    assert table.scope is not None
    assert policy.scope is not None
    return percent(float((table.scope < np.float32(policy.scope.limit)).mean()))


def percent(share: float | None) -> str:
    """`7.3 %`."""
    return "-" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    """Run all three, each set and seed in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", default="probe")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    options = Options(given.data.resolve(), given.weights.resolve(), given.recipe)
    seeds = range(given.seeds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = calibration(seeds, options, folder)
        thresholds(seeds, options, folder)
        scope(run, options, folder)


if __name__ == "__main__":
    main()

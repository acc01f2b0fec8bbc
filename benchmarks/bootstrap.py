"""How long intervals take: all of metrics.json against a plain loop over scikit-learn.

    python benchmarks/bootstrap.py [--pictures 10000 --classes 50 --task multiclass]

The loop draws pictures and calls scikit-learn for each of a few resamples, for the figures that
have an interval in metrics.json; its time for 1,000 resamples is extrapolated. Both take turns, so
that a slow moment of the machine falls on both. What `compute_metrics` takes is all of it: figures,
intervals, the confusion matrix, calibration.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation import compute_metrics

RESAMPLES = 1000
IN_LOOP = 3
ROUNDS = 3

Targets = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def make_case(pictures: int, classes: int, task: Task) -> tuple[LabelSpace, Targets, Probabilities]:
    """Random truth, and logits that know some of it."""
    rng = np.random.default_rng(0)
    space = LabelSpace.flat(task, [f"class {number:03}" for number in range(classes)])
    if task == "multiclass":
        targets = rng.integers(0, classes, pictures)
        truth = np.eye(classes)[targets]
    else:
        targets = (rng.random((pictures, classes)) < 0.1).astype(np.int64)
        truth = targets
    logits = 2 * truth + rng.normal(size=truth.shape) - (1 if task == "multilabel" else 0)
    return space, targets, logits.astype(np.float32)


def resample_with_scikit_learn(
    task: Task, targets: Targets, probabilities: Probabilities, rng: np.random.Generator
) -> None:
    """The figures of one resample, as one would write it."""
    rows = rng.integers(0, len(targets), len(targets))
    true, scores = targets[rows], probabilities[rows].astype(np.float64)
    classes = scores.shape[1]
    if task == "multiclass":
        scores /= scores.sum(axis=1, keepdims=True)
        named = scores.argmax(axis=1)
        sk.accuracy_score(true, named)
        sk.top_k_accuracy_score(true, scores, k=5, labels=np.arange(classes))
        sk.balanced_accuracy_score(true, named)
        sk.cohen_kappa_score(true, named)
        sk.matthews_corrcoef(true, named)
        sk.log_loss(true, scores, labels=np.arange(classes))
        truth = np.eye(classes)[true]
        np.square(scores - truth).sum(axis=1).mean()  # Brier
        sk.multilabel_confusion_matrix(true, named)  # specificity
    else:
        truth, named = true, (scores >= 0.5).astype(np.int64)
        sk.hamming_loss(true, named)
        sk.accuracy_score(true, named)
        sk.label_ranking_average_precision_score(true, scores)
        sk.log_loss(true.ravel(), scores.ravel())
        sk.brier_score_loss(true.ravel(), scores.ravel())
        sk.multilabel_confusion_matrix(true, named)
    sk.precision_recall_fscore_support(true, named, average=None, zero_division=0)
    for average in ("macro", "micro", "weighted"):
        sk.f1_score(true, named, average=average, zero_division=0)
    sk.roc_auc_score(truth, scores, average=None)
    sk.average_precision_score(truth, scores, average=None)


def seconds(work: Callable[[], object]) -> float:
    """Run once and return how long it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--task", choices=("multiclass", "multilabel"), default="multiclass")
    options = parser.parse_args()
    task: Task = options.task
    space, targets, logits = make_case(options.pictures, options.classes, task)
    policy = DecisionPolicy.default(space)
    probabilities = calibrate(logits, policy, task)
    ids = tuple(map(str, range(len(targets))))
    table = PredictionTable(ids, space.names, logits, probabilities)
    rng = np.random.default_rng(1)

    def ours() -> None:
        compute_metrics(table, targets, space, policy, about={})

    def loop() -> None:
        for _ in range(IN_LOOP):
            resample_with_scikit_learn(task, targets, probabilities, rng)

    warnings.simplefilter("ignore")
    seconds(loop)  # imports and first calls
    rounds = [(seconds(ours), seconds(loop) * RESAMPLES / IN_LOOP) for _ in range(ROUNDS)]
    print(f"{options.pictures} pictures, {options.classes} classes, {task}, {RESAMPLES} resamples")
    for name, times in zip(("taxon", "loop, extrapolated"), zip(*rounds, strict=True), strict=True):
        print(
            f"  {name:20} {statistics.median(times):8.1f} s ({min(times):.1f} to {max(times):.1f})"
        )
    ratios = [theirs / own for own, theirs in rounds]
    print(
        f"  ratio                {statistics.median(ratios):8.0f} "
        f"({min(ratios):.0f} to {max(ratios):.0f})"
    )


if __name__ == "__main__":
    main()

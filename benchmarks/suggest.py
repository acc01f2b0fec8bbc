"""How many labels `taxon suggest` saves: rounds of labelling by suggestion, and by chance.

    python benchmarks/suggest.py --data clothing10 --weights model.safetensors \
        [--methods random weighted ...] [--start 5] [--step 25] [--rounds 8] [--seeds 3] [--rare 6]

The folder holds labels.csv, one class a picture. A few pictures of each class of `train` have a
label at first; each round adds some of the others, chosen by the functions of the command from the
probabilities and features of the model of that round, and the model is trained anew: the head of
the recipe `probe` (a logistic regression on frozen features, its regularisation chosen by
cross-validation), scored on `val`. The backbone is frozen, so its features are computed once, of
the plain picture: `probe` itself also takes a second view. The near-duplicate check is left out.

Clothing10 has as many pictures of each class, which is kind to chance; with --rare, every second
class of the pool has one in so many.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from finetune import MODEL
from taxon.api.suggesting import DEFAULT_METHOD, uncertainty_of
from taxon.core.predictions import FloatArray
from taxon.data import Columns, load_manifest
from taxon.models.backbones import create_backbone, preprocessing_of
from taxon.models.features import extract_features
from taxon.models.weights import load_pretrained
from taxon.similarity import METHODS, Method, select
from taxon.training.logistic import Examples, LinearHead, solve

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """All pictures: features float32 [N, F], targets int64 [N], rows of the parts."""

    features: FloatArray
    targets: Rows
    train: Rows
    validation: Rows
    classes: int


@dataclass(frozen=True)
class Plan:
    """First labels a class, labels a round, rounds, and how rare every second class is."""

    start: int
    step: int
    rounds: int
    rare: int


def read(data: Path, weights: Path) -> Pictures:
    """Compute the features of all pictures once."""
    manifest = load_manifest(data / "labels.csv", Columns())
    backbone, _ = load_pretrained(create_backbone(MODEL), weights)
    spec = preprocessing_of(backbone.settings)
    parts = np.array([record.split for record in manifest.records])
    return Pictures(
        features=extract_features(backbone, manifest.records, spec),
        targets=manifest.targets(),
        train=np.flatnonzero(parts == "train"),
        validation=np.flatnonzero(parts == "validation"),
        classes=len(manifest.label_space.names),
    )


def curve(pictures: Pictures, plan: Plan, method: Method, seed: int) -> list[float]:
    """Top-1 on the validation part after each round, from the first labels on."""
    rng = np.random.default_rng(seed)
    pool = rng.permutation(pictures.train)
    of_class = [pool[pictures.targets[pool] == place] for place in range(pictures.classes)]
    if plan.rare > 1:
        of_class[1::2] = [rows[: len(rows) // plan.rare] for rows in of_class[1::2]]
    labelled = np.concatenate([rows[: plan.start] for rows in of_class])
    left = rng.permutation(np.concatenate([rows[plan.start :] for rows in of_class]))
    scores = []
    for turn in range(plan.rounds + 1):
        head = fit(pictures, labelled, seed)
        answers = probabilities(pictures, head, pictures.validation).argmax(axis=1)
        scores.append(float(np.mean(answers == pictures.targets[pictures.validation])))
        if turn < plan.rounds:
            chosen = choose(pictures, head, left, plan.step, method, seed=1000 * seed + turn)
            labelled = np.concatenate([labelled, left[chosen]])
            left = np.delete(left, chosen)
    return scores


def choose(
    pictures: Pictures, head: LinearHead, left: Rows, count: int, method: Method, seed: int
) -> Rows:
    """What `taxon suggest` would choose."""
    own = probabilities(pictures, head, left)
    uncertainty = uncertainty_of(own, "multiclass")
    return select(pictures.features[left], own, uncertainty, count, method=method, seed=seed)


def fit(pictures: Pictures, rows: Rows, seed: int) -> LinearHead:
    """The head of the recipe `probe`."""
    count = len(rows)
    examples = Examples(
        pictures.features[rows], pictures.targets[rows], np.ones(count), np.arange(count)
    )
    return solve(examples, None, classes=pictures.classes, seed=seed)


def probabilities(pictures: Pictures, head: LinearHead, rows: Rows) -> FloatArray:
    """float32 [N, C]; the head is scaled by its temperature."""
    features = (pictures.features[rows] - head.mean) * head.factor
    return np.asarray(softmax(features @ head.weight.T + head.bias, axis=1), np.float32)


def labels_needed(scores: Sequence[float], counts: Sequence[int], goal: float) -> float | None:
    """How many labels the curve takes to a score, between two rounds by proportion."""
    for place, score in enumerate(scores):
        if score >= goal:
            if place == 0:
                return float(counts[0])
            before = scores[place - 1]
            share = (goal - before) / (score - before)
            return counts[place - 1] + share * (counts[place] - counts[place - 1])
    return None


def report(curves: dict[Method, list[list[float]]], counts: Sequence[int]) -> None:
    """Print the curves and what is saved."""
    print("| labels | " + " | ".join(str(count) for count in counts) + " |")
    print("|---|" + "---|" * len(counts))
    means = {
        method: [statistics.mean(scores) for scores in zip(*runs, strict=True)]
        for method, runs in curves.items()
    }
    for method, mean in means.items():
        print(f"| {method} | " + " | ".join(f"{100 * score:.1f}" for score in mean) + " |")
    if "random" not in curves:
        return
    goals = means["random"]
    print(f"\nLabels to what chance reaches with {counts[-1]} ({100 * max(goals):.1f} %):")
    for method, mean in means.items():
        needed = labels_needed(mean, counts, max(goals))
        words = "not reached" if needed is None else f"{needed:.0f}"
        gains = [
            100 * (statistics.mean(own) - statistics.mean(chance))
            for own, chance in zip(curves[method], curves["random"], strict=True)
        ]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        print(
            f"{method}: {words}; mean gain over the curve {statistics.mean(gains):+.1f} points "
            f"(by seed: {each})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["random", DEFAULT_METHOD], choices=METHODS)
    parser.add_argument("--start", type=int, default=5)
    parser.add_argument("--step", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rare", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    pictures = read(given.data, given.weights)
    print(f"features of {len(pictures.targets)} pictures: {time.monotonic() - begun:.0f} s")
    plan = Plan(given.start, given.step, given.rounds, given.rare)
    curves: dict[Method, list[list[float]]] = {}
    for method in given.methods:
        curves[method] = [curve(pictures, plan, method, seed) for seed in range(given.seeds)]
        print(f"{method}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    first = plan.start * pictures.classes
    report(curves, [first + turn * plan.step for turn in range(plan.rounds + 1)])
    print(f"\n{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()

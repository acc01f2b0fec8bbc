"""How the score grows with pictures a class, and what the curve of fewer pictures expected.

    python benchmarks/learning_curve.py --data clothing10 --weights model.safetensors \
        [--recipe probe ...] [--counts 10 25 50 72] [--seeds 3] [--out curve.jsonl]

The folder holds labels.csv, one class a picture. So many pictures of each class are drawn from
`train`, the larger draw holding the smaller one; recipes train on them and are scored on `val`.
Next to it: what the learning curve of a probe, fitted on half and on a quarter of the pictures,
expects for the same number (with its 95 % interval; out of fold, so of pictures like those of
`train`), and what the curve of all of them expects.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune import CASES, MODEL, Case, run_ours
from taxon.data import Columns, Manifest, load_manifest
from taxon.data.splitting.grouping import unit_numbers
from taxon.models.backbones import create_backbone, preprocessing_of
from taxon.models.features import extract_features
from taxon.models.weights import load_pretrained
from taxon.training.learning_curve import LearningCurve, learning_curve

PARTS = {"all": 1, "half": 2, "a quarter": 4}


def draw(train: Manifest, count: int, seed: int) -> Manifest:
    """So many pictures of each class (all of a smaller one); of one seed, nested."""
    order = np.random.default_rng(seed).permutation(len(train))
    targets = train.targets()[order]
    chosen = np.concatenate(
        [order[targets == position][:count] for position in range(len(train.label_space.names))]
    )
    ids = {train.records[position].id for position in chosen}
    return train.where(lambda record: record.id in ids)


def fit_curves(
    train: Manifest, weights: Path, largest: int, seed: int
) -> dict[str, LearningCurve | None]:
    """The curves of draws with `largest` pictures a class, with half and a quarter of them."""
    backbone, _ = load_pretrained(create_backbone(MODEL), weights)
    features = extract_features(backbone, train.records, preprocessing_of(backbone.settings))
    targets, groups = train.targets(), unit_numbers(train)
    place = {record.id: position for position, record in enumerate(train.records)}
    curves = {}
    for name, part in PARTS.items():
        drawn = draw(train, largest // part, seed)
        rows = np.array([place[record.id] for record in drawn.records])
        curves[name] = learning_curve(
            features[rows], targets[rows], groups[rows], task="multiclass", seed=seed
        )
        if curve := curves[name]:
            print(f"{name}: {curve.sentence()}", flush=True)
    return curves


def cell(curve: LearningCurve | None, pictures: int) -> str:
    """What a curve expects, in per cent, or a dash where it cannot tell."""
    try:
        assert curve is not None
        score, low, high = curve.expected(pictures)
    except (AssertionError, ValueError):
        return "–"
    return f"{100 * score:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def show(
    measured: dict[int, dict[str, list[float]]],
    pictures: dict[int, int],
    curves: dict[str, LearningCurve | None],
) -> None:
    """Print a table in Markdown; curves are those of the first seed."""
    recipes = list(next(iter(measured.values())))
    heads = [*(f"{recipe}, mean (each)" for recipe in recipes)]
    heads += [f"curve of {name}" for name in curves]
    print(f"\n| a class | pictures | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 2) + "|")
    for count, by_recipe in measured.items():
        cells = [
            f"{100 * statistics.mean(scores):.1f} "
            f"({', '.join(f'{100 * score:.1f}' for score in scores)})"
            for scores in by_recipe.values()
        ]
        cells += [cell(curve, pictures[count]) for curve in curves.values()]
        print(f"| {count} | {pictures[count]:,} | {' | '.join(cells)} |")


def measure(
    train: Manifest,
    test: Manifest,
    weights: Path,
    recipes: Sequence[str],
    counts: Sequence[int],
    seeds: int,
    out: Path,
) -> dict[int, dict[str, list[float]]]:
    """Top-1 on the test, by pictures a class, recipe and seed."""
    measured: dict[int, dict[str, list[float]]] = {}
    for count in counts:
        for recipe in recipes:
            for seed in range(seeds):
                drawn = draw(train, count, seed)
                score, seconds, _ = run_ours(drawn, test, weights, recipe, seed, "top1")
                measured.setdefault(count, {}).setdefault(recipe, []).append(score)
                line = [count, len(drawn), recipe, seed, score, round(seconds, 1)]
                with out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", action="append", dest="recipes")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 25, 50, 72])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("learning_curve.jsonl"))
    options = parser.parse_args()
    case = CASES.get(options.data.name, Case(Columns(), "top1"))
    manifest = load_manifest(options.data / "labels.csv", case.columns)
    if manifest.label_space.task != "multiclass":
        parser.error("pictures a class are for sets with one class a picture")
    train, test = manifest.part("train"), manifest.part("validation")
    recipes = options.recipes or ["probe"]
    curves = fit_curves(train, options.weights, max(options.counts), 0)
    measured = measure(
        train, test, options.weights, recipes, options.counts, options.seeds, options.out
    )
    show(measured, {count: len(draw(train, count, 0)) for count in options.counts}, curves)


if __name__ == "__main__":
    main()

"""Recipes beside the charter's recipe as a plain PyTorch loop, on four sets, seed by seed.

    python benchmarks/finetune.py --data FOLDER --weights model.safetensors \
        [--set clothing10 ...] [--recipe staged ...] [--seeds 3] [--first-seed 0] [--out runs.jsonl]

FOLDER holds the four sets, each with labels.csv. Everything trains on `train` alone (without a
validation part, so the last epoch is kept) and is scored on `val`, which chooses nothing. Ours and
the loop take turns in one process; seconds are those of the whole `taxon train`, with choices,
export and verification, and of the loop's training alone. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import taxon
from plain_loop import train_plain
from taxon.bundle import read_bundle
from taxon.data import Columns, Manifest, load_manifest, write_manifest
from taxon.metrics import headline

MODEL = "tf_mobilenetv3_small_100"
LOOP = "plain loop"


@dataclass(frozen=True)
class Case:
    """A set, how its table is read, and the figure that it is judged by."""

    columns: Columns
    figure: str


CASES = {
    "clothing10": Case(Columns(), "top1"),
    "magnetic_tile": Case(Columns(group="tile_group"), "macro_f1"),
    "grocery_produce_hier": Case(Columns(label=("coarse", "fine")), "top1"),
    "deeppcb_multilabel": Case(Columns(), "mAP"),
}


def score(test: Manifest, logits: npt.NDArray[np.float32], figure: str) -> float:
    """The figure of logits [N, C]."""
    several = test.label_space.task == "multilabel"
    scores = 1 / (1 + np.exp(-logits)) if several else logits
    return headline(test.label_space.task, test.targets(), scores)[figure]


def run_ours(
    train: Manifest, test: Manifest, weights: Path, recipe: str, seed: int, figure: str
) -> tuple[float, float, list[float]]:
    """Train with a recipe; return the figure on the test, the seconds of `train`, and its speeds.

    Speeds are pictures a second in each stage, views of kept features and validation included.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.parquet"
        write_manifest(train, data)
        start = time.perf_counter()
        model = taxon.train(
            data,
            out=Path(folder) / "run",
            model=MODEL,
            weights=weights,
            recipe=recipe,
            seed=seed,
            overrides=["split.validation=0", "split.test=0"],
        )
        seconds = time.perf_counter() - start
        held_out = Path(folder) / "test.parquet"
        write_manifest(test, held_out)
        result = model.evaluate(held_out, split="all", out=Path(folder) / "scores").metrics
        found = {
            "top1": result.top1,
            "macro_f1": result.macro_f1,
            "mAP": result.average_precision.macro,
        }
        value = found[figure].value
        assert value is not None
        return value, seconds, _speeds(model.path, len(train))


def _speeds(run: Path, pictures: int) -> list[float]:
    history = read_bundle(run).info.provenance.history
    stages = dict.fromkeys(row["stage"] for row in history)
    by_stage = [[row["seconds"] for row in history if row["stage"] == stage] for stage in stages]
    return [pictures * len(seconds) / max(sum(seconds), 0.01) for seconds in by_stage]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=list(CASES), dest="sets")
    parser.add_argument("--recipe", action="append", dest="recipes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-loop", action="store_true", help="figures alone, no ratios")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("finetune.jsonl"))
    options = parser.parse_args()
    for name in options.sets or list(CASES):
        case = CASES[name]
        manifest = load_manifest(options.data / name / "labels.csv", case.columns)
        train, test = manifest.part("train"), manifest.part("validation")
        rows: dict[str, list[tuple[float, float]]] = {}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            recipes = options.recipes or ["probe", "staged", "auto"]
            for recipe in recipes if options.without_loop else [LOOP, *recipes]:
                if recipe == LOOP:
                    rival = train_plain(train, test, options.weights, model_name=MODEL, seed=seed)
                    value, seconds = score(test, rival.logits, case.figure), rival.seconds
                    speeds = list(rival.speeds)
                else:
                    value, seconds, speeds = run_ours(
                        train, test, options.weights, recipe, seed, case.figure
                    )
                rows.setdefault(recipe, []).append((value, seconds))
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rounded = [round(speed) for speed in speeds]
                line = [name, recipe, seed, value, seconds, round(memory), rounded]
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
        show(name, case.figure, rows)


def show(name: str, figure: str, rows: dict[str, list[tuple[float, float]]]) -> None:
    """Print a table in Markdown; times as a ratio to the loop of the same seed."""
    print(f"\n| {name} | {figure}, mean | each seed | seconds, mean | ratio to the loop |")
    print("|---|---|---|---|---|")
    for recipe, results in rows.items():
        scores = [value for value, _ in results]
        seconds = [value for _, value in results]
        loop = [value for _, value in rows.get(LOOP, results)]
        ratios = [own / other for own, other in zip(seconds, loop, strict=True)]
        each = ", ".join(f"{100 * value:.1f}" for value in scores)
        print(
            f"| {recipe} | {100 * statistics.mean(scores):.1f} | {each} | "
            f"{statistics.mean(seconds):.0f} | {statistics.mean(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()

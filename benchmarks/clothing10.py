"""clothing10: taxon's `staged` recipe beside the plain PyTorch loop, seed by seed.

    python benchmarks/clothing10.py --data DATA --weights model.safetensors [--seeds 3]

DATA holds train/ and val/ with one folder a class. Both train on all of train/ (no validation
part, so the last epoch is kept), and both are scored on val/, which neither has seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import taxon
from plain_loop import train_plain

MODEL = "tf_mobilenetv3_small_100"


def train_ours(data: Path, weights: Path, seed: int, overrides: list[str]) -> tuple[float, float]:
    """Train with taxon; return top-1 and the seconds of training."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = taxon.train(
            data / "train",
            out=Path(folder) / "run",
            model=MODEL,
            weights=weights,
            seed=seed,
            overrides=["split.validation=0", "split.test=0", *overrides],
        )
        seconds = time.perf_counter() - start
        result = model.evaluate(data / "val", out=Path(folder) / "evaluation")
        top1 = result.metrics.top1.value
        assert top1 is not None
        return top1, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--only-ours", action="store_true")
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {"taxon staged": [], "plain loop": []}
    for seed in range(options.seeds):
        rows["taxon staged"].append(
            train_ours(options.data, options.weights, seed, options.overrides)
        )
        if not options.only_ours:
            rows["plain loop"].append(
                train_plain(
                    options.data / "train",
                    options.data / "val",
                    options.weights,
                    model_name=MODEL,
                    seed=seed,
                )
            )
        print(json.dumps({name: values[-1:] for name, values in rows.items()}), flush=True)
    print("| | top-1, mean | each seed | seconds, mean |\n|---|---|---|---|")
    for name, values in rows.items():
        if values:
            scores = [score for score, _ in values]
            seconds = statistics.mean(value for _, value in values)
            each = ", ".join(f"{score:.1%}" for score in scores)
            print(f"| {name} | {statistics.mean(scores):.1%} | {each} | {seconds:.0f} |")


if __name__ == "__main__":
    main()

"""How many augmented views of each picture pay while blocks are frozen.

    python benchmarks/views.py [--views 0 1 2 4 8] [--seeds 3] [--weights backbone.safetensors]
    python benchmarks/views.py --data FOLDER --weights model.safetensors --set clothing10

Only the two frozen stages of `staged` run, with `--override stages.1.epochs=0` the head's alone.
With FOLDER and weights everything trains on `train` alone and is scored on `val`, as in
`finetune.py`. Without, a tiny backbone is pretrained on the sample `taxonomy`; `defects` of one
seed train with the demo's stages, those of another seed are the test. Without a validation part
the last epoch is kept. Seconds are those of the epochs, the computing of the views included;
processor seconds count all threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

import taxon
from finetune import CASES, MODEL, score
from taxon.api.choosing import choose_plan
from taxon.api.classifier import train_classifier
from taxon.api.demo import TINY_STAGES
from taxon.api.starting import choose_start
from taxon.bundle.layout import WEIGHTS_FILE
from taxon.config import load_config
from taxon.data import Manifest, load_manifest
from taxon.models.classifier import Normalise
from taxon.models.zoo import DEFAULT_FROM_SCRATCH
from taxon.training import EpochDone, Event, StageStarted, silent
from taxon.training.outputs import predict_logits

SAMPLES: Final = "defects"
# No stage trains all blocks; the framing is the weights' own, so that the views alone differ.
FIXED = ("stages.2.epochs=0", "preprocessing.resize=crop")


@dataclass(frozen=True)
class Task:
    """What is trained on what, from which weights, and the figure that it is judged by."""

    train: Manifest
    test: Manifest
    weights: Path
    model: str
    figure: str
    overrides: tuple[str, ...] = ()


class Stopwatch:
    """Listens to a training, and sums up the seconds of its epochs.

    Attributes:
        wall, processor: seconds.
    """

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self._start = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            self.wall += event.row["seconds"]
            self.processor += time.process_time() - self._start
        if isinstance(event, EpochDone | StageStarted):
            self._start = time.process_time()


def real(data: Path, weights: Path, name: str) -> Task:
    """One of the sets of `finetune.py`."""
    case = CASES[name]
    manifest = load_manifest(data / name / "labels.csv", case.columns)
    train, test = manifest.part("train"), manifest.part("validation")
    return Task(train, test, weights, MODEL, case.figure)


@contextmanager
def generated(weights: Path | None) -> Iterator[Task]:
    """The sample data; without weights a backbone is pretrained first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, part in enumerate(("train", "test")):
            taxon.sample_data(SAMPLES, folder / part, seed=seed)
        if weights is None:
            taxon.sample_data("taxonomy", folder / "taxonomy")
            backbone = taxon.train(folder / "taxonomy", out=folder / "backbone", weights="none")
            weights = backbone.path / WEIGHTS_FILE
        given, test = load_manifest(folder / "train"), load_manifest(folder / "test")
        train = given.with_splits("train" for _ in given.records)
        yield Task(train, test, weights, DEFAULT_FROM_SCRATCH, "macro_f1", TINY_STAGES)


def measure(task: Task, views: int, seed: int) -> tuple[float, float, float]:
    """The figure after the frozen stages, and their seconds by the clock and of the processor."""
    config = load_config(
        "staged",
        options={"model": task.model, "weights": str(task.weights), "seed": seed},
        overrides=[*task.overrides, *FIXED, f"feature_cache.views={views}"],
    )
    watch = Stopwatch()
    start = choose_start(config, Path.cwd(), silent)
    plan = choose_plan(start, task.train, config, silent)
    trained = train_classifier(start, task.train, plan, watch)
    spec, device = trained.preprocessing, torch.device("cpu")
    normalise = Normalise(spec.mean, spec.std)
    logits = predict_logits(trained.classifier, normalise, task.test, spec, device)
    return score(task.test, logits, task.figure), watch.wall, watch.processor


def compare(name: str, task: Task, counts: list[int], seeds: int, out: Path) -> None:
    """Measure all numbers of views in turn, seed by seed; print a table in Markdown."""
    rows: dict[int, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        for views in counts:
            result = measure(task, views, seed)
            rows.setdefault(views, []).append(result)
            line = json.dumps([name, views, seed, *result])
            with out.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
    print(f"\n| views, {name} | {task.figure}, mean | each seed | seconds | processor seconds |")
    print("|---|---|---|---|---|")
    for views, results in rows.items():
        values, wall, processor = zip(*results, strict=True)
        each = ", ".join(f"{100 * value:.1f}" for value in values)
        print(
            f"| {views or 'new each epoch'} | {100 * statistics.mean(values):.1f} | {each} | "
            f"{statistics.mean(wall):.0f} | {statistics.mean(processor):.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real sets")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", choices=[SAMPLES, *CASES], default=SAMPLES, dest="name")
    parser.add_argument("--views", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--override", action="append", default=[], help="key=value")
    parser.add_argument("--out", type=Path, default=Path("views.jsonl"))
    options = parser.parse_args()
    extra = tuple(options.override)
    if options.name == SAMPLES:
        with generated(options.weights) as task:
            task = replace(task, overrides=(*task.overrides, *extra))
            compare(options.name, task, options.views, options.seeds, options.out)
        return
    if options.data is None or options.weights is None:
        parser.error(f"--set {options.name} needs --data and --weights")
    task = replace(real(options.data, options.weights, options.name), overrides=extra)
    compare(options.name, task, options.views, options.seeds, options.out)


if __name__ == "__main__":
    main()

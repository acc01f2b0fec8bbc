"""What each imbalance strategy does on real, imbalanced pictures, seed by seed.

    python benchmarks/imbalance.py --data labels.csv --weights model.safetensors --out FILE.json

DATA is a table with `path`, `label`, `split` and a group column. Its validation part becomes the
test, which chooses nothing; the part that picks the epoch and the temperature is taken out of its
training part, by group, once: all strategies and seeds share the split. The seed changes the
head's start, the order and the augmentation.

After every run its predictions are added to FILE.json, so that an interrupted benchmark goes on.
The interval is of the difference of macro-F1 to `none`: groups of the test are drawn with
replacement, 2,000 times, the same ones for every run; in each draw, macro-F1 is computed for
every run and averaged over the seeds, and the two means are subtracted. It covers the chance of
the test pictures, not that of the seeds: those are listed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import recall_score

from taxon.api.choosing import choose_plan
from taxon.api.classifier import train_classifier
from taxon.api.starting import choose_start
from taxon.config import TrainConfig, load_config
from taxon.core.files import write_json
from taxon.data import Columns, Manifest, load_manifest
from taxon.data.imbalance import advise
from taxon.data.splitting.splits import ensure_split
from taxon.models.classifier import Normalise
from taxon.training import EpochDone, Event, Note
from taxon.training.trainer import predict_logits

MODEL = "tf_mobilenetv3_small_100"
STRATEGIES = "none,weighted-sampler,focal,class-weights,oversample,balanced-softmax,logit-adjust"
STRATEGY_HELP = "names; joined by +, with keys: focal+class-weights:weight_power=0.5"
RESAMPLES = 2000
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """The file of finished runs.

    Attributes:
        content: `settings` and `runs`: strategy -> seed -> what came out.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> Runs:
        """Read the file, or begin it; runs under other settings do not mix."""
        if not path.exists():
            return cls(path, {"settings": settings, "runs": {}})
        content = json.loads(path.read_text("utf-8"))
        if content["settings"] != settings:
            raise SystemExit(f"{path} holds runs under other settings: {content['settings']}")
        return cls(path, content)

    def of(self, strategy: str) -> dict[str, Any]:
        """Finished runs of a strategy by seed."""
        return self.content["runs"].setdefault(strategy, {})  # type: ignore[no-any-return]

    def add(self, strategy: str, seed: int, result: dict[str, Any]) -> None:
        """Keep a run, at once."""
        self.of(strategy)[str(seed)] = result
        write_json(self.path, self.content)


def divide(data: Path, columns: Columns, validation: float) -> Manifest:
    """Train, validation and test; the test is what the table calls validation."""
    given = load_manifest(data, columns)
    as_test = given.with_splits(
        "test" if record.split == "validation" else record.split or "train"
        for record in given.records
    )
    return ensure_split(as_test, validation=validation, test=0.0, seed=0).manifest


def run(manifest: Manifest, config: TrainConfig) -> dict[str, Any]:
    """Train under one configuration; return the predictions for the test and what was noted."""
    epochs: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event.row["seconds"])
        elif isinstance(event, Note):
            print(f"    {event.text}", flush=True)

    began = time.perf_counter()
    start = choose_start(config, Path.cwd(), listen)
    plan = choose_plan(start, manifest, config, listen)
    trained = train_classifier(start, manifest, plan, listen)
    spec = trained.preprocessing
    test = manifest.part("test")
    device = next(trained.classifier.parameters()).device
    normalise = Normalise(spec.mean, spec.std)
    logits = predict_logits(trained.classifier, normalise, test, spec, device)
    adjusted = logits * np.array(trained.policy.scale) + np.array(trained.policy.bias)
    return {
        "predicted": adjusted.argmax(axis=1).tolist(),
        "note": next(note for note in trained.notes if note.startswith("imbalance: ")),
        "seconds": round(time.perf_counter() - began, 1),
        "seconds_per_epoch": round(float(np.mean(epochs)), 2),
    }


def imbalance_overrides(strategy: str) -> list[str]:
    """`focal+class-weights:weight_power=0.5` as overrides of the configuration."""
    names, *keys = strategy.split(":")
    listed = names.replace("+", ", ")
    return [f"imbalance.strategy=[{listed}]", *(f"imbalance.{key}" for key in keys)]


def resamples(manifest: Manifest) -> list[IntArray]:
    """Positions of test pictures, drawn by group with replacement."""
    groups: dict[str, list[int]] = {}
    for position, record in enumerate(manifest.records):
        groups.setdefault(record.group or record.id, []).append(position)
    members = [np.array(group) for group in groups.values()]
    rng = np.random.default_rng(0)
    return [
        np.concatenate([members[drawn] for drawn in rng.integers(0, len(members), len(members))])
        for _ in range(RESAMPLES)
    ]


def macro_f1(targets: IntArray, runs: Sequence[IntArray]) -> list[float]:
    """Macro-F1 of each run, over the classes that the targets hold."""
    classes = int(max(targets.max(), *(run.max() for run in runs))) + 1
    scores = []
    for run in runs:
        cells = np.bincount(targets * classes + run, minlength=classes**2)
        confusion = cells.reshape(classes, classes)
        support, named = confusion.sum(axis=1), confusion.sum(axis=0)
        held = support > 0
        scores.append(float((2 * np.diag(confusion)[held] / (support + named)[held]).mean()))
    return scores


def report(train: Manifest, test: Manifest, runs: Runs, strategies: Sequence[str]) -> None:
    """Print the table of all finished runs."""
    targets, names = test.targets(), test.label_space.names
    done = {name: list(runs.of(name).values()) for name in strategies if runs.of(name)}
    answers = {name: [np.array(row["predicted"]) for row in rows] for name, rows in done.items()}
    draws = resamples(test)
    sampled = {
        name: np.array([np.mean(macro_f1(targets[d], [run[d] for run in row])) for d in draws])
        for name, row in answers.items()
    }
    print(f"\n| strategy | macro-F1 | each seed | minus none (95 %) | {' | '.join(names)} |")
    print("|---" * (4 + len(names)) + "|")
    for name, rows in answers.items():
        scores = macro_f1(targets, rows)
        difference = ""
        if name != "none" and "none" in answers:
            gap = np.mean(scores) - np.mean(macro_f1(targets, answers["none"]))
            low, high = np.percentile(sampled[name] - sampled["none"], [2.5, 97.5])
            difference = f"{100 * gap:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        recalls = np.mean([recall_score(targets, row, average=None) for row in rows], axis=0)
        cells = [
            name,
            f"{100 * np.mean(scores):.1f}",
            ", ".join(f"{100 * score:.1f}" for score in scores),
            difference,
            *(f"{100 * recall:.0f}" for recall in recalls),
        ]
        print(f"| {' | '.join(cells)} |")
    print(f"\n{advise(train.counts(), train.label_space.task)}")
    for name, rows in done.items():
        pace = np.mean([row["seconds_per_epoch"] for row in rows])
        print(f"{name}: {rows[0]['note']}; {pace:.1f} s an epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--group-column", default="tile_group")
    parser.add_argument("--validation", type=float, default=0.2, help="share of train")
    parser.add_argument("--strategies", default=STRATEGIES, help=STRATEGY_HELP)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    settings = {
        name: str(value)
        for name, value in vars(options).items()
        if name not in ("out", "seeds", "strategies", "data", "weights")
    }
    runs = Runs.open(options.out, settings)
    manifest = divide(options.data, Columns(group=options.group_column), options.validation)
    print({part: manifest.part(part).counts() for part in manifest.split_counts()})  # type: ignore[arg-type]
    strategies = options.strategies.split(",")
    # Seeds outside: an interrupted benchmark has every strategy as often as another.
    for seed in range(options.seeds):
        for strategy in strategies:
            if str(seed) in runs.of(strategy):
                continue
            print(f"seed {seed}, {strategy}", flush=True)
            config = load_config(
                "staged",
                options={
                    "model": options.model,
                    "weights": str(options.weights),
                    "epochs": options.epochs,
                    "seed": seed,
                },
                overrides=[
                    f"preprocessing.size={options.size}",
                    "preprocessing.resize=squash",
                    *imbalance_overrides(strategy),
                    *options.overrides,
                ],
            )
            runs.add(strategy, seed, run(manifest, config))
    report(manifest.part("train"), manifest.part("test"), runs, strategies)


if __name__ == "__main__":
    main()

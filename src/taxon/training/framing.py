"""Framing: crop, squash or pad, whichever a probe on the training part reads best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.predictions import FloatArray
from taxon.data import Manifest, Record
from taxon.data.splitting.grouping import unit_numbers
from taxon.metrics import headline
from taxon.models.backbones import Backbone
from taxon.models.features import extract_features
from taxon.models.probe import out_of_fold_probabilities
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import JPEG_FORMATS
from taxon.preprocessing.spec import ResizeMode
from taxon.preprocessing.transform import kept_area

MODES: tuple[ResizeMode, ...] = ("crop", "squash", "pad")
PROBE_PICTURES = 800
CPU_BUDGET = 6e9  # pictures times parameters of the backbone
MINIMUM_PICTURES = 60
RESAMPLES = 200
# The share of resamples in which another framing must win for the usual one to be given up.
# Long strips reach 0.96 to 1 on three seeds, chance 0.73 on one (benchmarks/framing.py).
SURELY = 0.9
# Large JPEGs are halved while they are decoded when even then they are larger than the input.
DCT_FACTOR = 4
MUCH_CUT_AWAY = 0.4


@dataclass(frozen=True)
class Framing:
    """The framing that was chosen, and why, in a sentence."""

    mode: ResizeMode
    reason: str


def choose_framing(
    backbone: Backbone,
    train: Manifest,
    spec: Preprocessing,
    *,
    pretrained: bool,
    seed: int,
    device: str,
) -> Framing:
    """Compare crop, squash and pad by cross-validating a frozen-feature probe.

    The framing of the weights stays unless another one is better by more than the noise (a
    bootstrap over units of pictures that belong together).

    Args:
        train: the training part alone; no other part may influence the choice.
        pretrained: random weights make no features to compare; then the pictures' shapes decide.
    """
    if not pretrained or len(train) < MINIMUM_PICTURES:
        return _by_shape(
            train.records, spec, "random weights" if not pretrained else "few pictures"
        )
    sample = _sample(train, backbone, seed, device)
    targets, groups = sample.targets(), unit_numbers(sample)
    classes = len(sample.label_space.names)
    probabilities: dict[ResizeMode, FloatArray] = {}
    for mode in _modes_that_differ(sample.records, spec):
        features = extract_features(
            backbone, sample.records, spec.model_copy(update={"resize": mode}), device=device
        )
        probabilities[mode] = out_of_fold_probabilities(
            features, targets, groups, classes=classes, seed=seed
        )
    return _compare(probabilities, sample, targets, groups, spec, seed)


def suits_dct_scaling(records: Sequence[Record], spec: Preprocessing) -> bool:
    """Whether most pictures are JPEGs several times larger than the input."""
    jpegs = [record for record in records if record.look and record.look.format in JPEG_FORMATS]
    if 2 * len(jpegs) <= len(records):
        return False
    sides = [min(record.width, record.height) for record in jpegs]
    return float(np.median(sides)) >= DCT_FACTOR * max(spec.height, spec.width)


def _by_shape(records: Sequence[Record], spec: Preprocessing, why: str) -> Framing:
    kept = [kept_area((record.width, record.height), spec) for record in records]
    lost = 1 - float(np.median(kept)) if kept else 0.0
    if spec.resize == "crop" and lost > MUCH_CUT_AWAY:
        return Framing("squash", f"squash, since a centre crop would cut away {lost:.0%} ({why})")
    return Framing(spec.resize, f"{spec.resize}, as the weights have it ({why})")


def _sample(train: Manifest, backbone: Backbone, seed: int, device: str) -> Manifest:
    """As many training pictures as probes go through in about a minute on 2 cores.

    The number goes by the backbone's size and not by the clock: the same run chooses the same.
    """
    parameters = sum(parameter.numel() for parameter in backbone.module.parameters())
    count = PROBE_PICTURES
    if device == "cpu":
        count = int(np.clip(CPU_BUDGET / parameters, MINIMUM_PICTURES, PROBE_PICTURES))
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = {train.records[position].id for position in order[:count]}
    return train.where(lambda record: record.id in chosen)


def _modes_that_differ(records: Sequence[Record], spec: Preprocessing) -> list[ResizeMode]:
    """Of square pictures, squash and pad are the same."""
    aspect = spec.width / spec.height
    shapes = np.array([record.width / record.height / aspect for record in records])
    same = float(np.mean(np.abs(np.log(shapes)) < 0.02)) > 0.95
    return [mode for mode in MODES if not same or mode != "pad" or spec.resize == "pad"]


def _compare(
    probabilities: dict[ResizeMode, FloatArray],
    sample: Manifest,
    targets: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    spec: Preprocessing,
    seed: int,
) -> Framing:
    task = sample.label_space.task
    name = "macro_f1" if task == "multiclass" else "mAP"
    words = "macro-F1" if task == "multiclass" else "mAP"

    def score(mode: ResizeMode, rows: npt.NDArray[np.int64]) -> float:
        return headline(task, targets[rows], probabilities[mode][rows]).get(name, 0.0)

    everything = np.arange(len(targets))
    scores = {mode: score(mode, everything) for mode in probabilities}
    best = max(scores, key=lambda mode: scores[mode])
    listed = ", ".join(f"{mode} {value:.2f}" for mode, value in scores.items())
    found = f"{words} of a probe on {len(sample)} training pictures: {listed}"
    usual = spec.resize
    if best == usual:
        return Framing(usual, f"{usual} ({found})")
    differences = [
        score(best, rows) - score(usual, rows) for rows in _resamples(groups, seed, RESAMPLES)
    ]
    share = float(np.mean(np.array(differences) > 0))
    found = f"{best} is better in {share:.0%} of resamples; {found}"
    if share < SURELY:
        return Framing(usual, f"{usual}, as the weights have it: not surely worse ({found})")
    return Framing(best, f"{best} ({found})")


def _resamples(groups: npt.NDArray[np.int64], seed: int, count: int) -> list[npt.NDArray[np.int64]]:
    """Positions of pictures, resampled by group with replacement (Field and Welsh 2007)."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    rng = np.random.default_rng(seed)
    return [
        np.concatenate(
            [members[position] for position in rng.integers(0, len(members), len(members))]
        )
        for _ in range(count)
    ]

"""Candidates for a choice, compared by cross-validated probes on the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taxon.config import Pooling
from taxon.core.labels import Task
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.splitting.grouping import unit_numbers
from taxon.metrics import GroupBootstrap, headline, indicator, predicted_classes
from taxon.metrics.indicator import known_entries
from taxon.metrics.resampled import count_samples, mean_over_classes, ranking_samples
from taxon.models.backbones import Backbone
from taxon.models.features import extract_features
from taxon.models.probe import out_of_fold_probabilities
from taxon.preprocessing import Preprocessing

PROBE_PICTURES = 500
CPU_BUDGET = 6e9  # pictures times parameters of the backbone
MINIMUM_PICTURES = 60
MINIMUM_GROUPS = 5  # one a fold
RESAMPLES = 1000
# The share of resamples in which another candidate must win for the usual one to be given up.
# Framings of long strips reach 0.96 to 1 on three seeds, chance 0.73 on one
# (benchmarks/framing.py).
SURELY = 0.9

_FIGURES: dict[Task, tuple[str, str]] = {
    "multiclass": ("macro_f1", "macro-F1"),
    "multilabel": ("mAP", "mAP"),
}
IntArray = npt.NDArray[np.int64]


class Candidate(NamedTuple):
    """A way to make features of pictures."""

    preprocessing: Preprocessing
    pooling: Pooling


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, by its name, and why, in a sentence."""

    name: str
    reason: str


class Probes:
    """Probes on a sample of the training part; what was computed once is kept.

    Attributes:
        sample: as many pictures as probes go through in about half a minute on 2 cores. The number
            goes by the backbone's size and not by the clock: the same run chooses the same.
        targets: int64 [N] or [N, C], of the sample.
        poolings: the kinds of features to compare, the usual one first; several are extracted
            together.
        groups: int64 [N]; pictures of one group are held out together, and resampled together.
    """

    def __init__(
        self,
        backbone: Backbone,
        train: Manifest,
        *,
        seed: int,
        device: str,
        poolings: Sequence[Pooling] = ("last",),
    ) -> None:
        self.backbone, self.device, self.seed = backbone, device, seed
        self.poolings = poolings
        self.sample = _sample(train, backbone, seed, device)
        self.targets, self.groups = self.sample.targets(), unit_numbers(self.sample)
        self._features: dict[Candidate, FloatArray] = {}
        self._probabilities: dict[Candidate, FloatArray] = {}

    def features(self, candidate: Candidate) -> FloatArray:
        """Of the sample, float32 [N, F]."""
        spec, pooling = candidate
        together = pooling != "all" and len(self.poolings) > 1
        extracted = Candidate(spec, "all") if together else candidate
        if extracted not in self._features:
            self._features[extracted] = extract_features(
                self.backbone,
                self.sample.records,
                spec,
                pooling=extracted.pooling,
                device=self.device,
            )
        found, count = self._features[extracted], self.backbone.features
        if not together:
            return found
        return found[:, :count] if pooling == "last" else found[:, count:]

    def probabilities(self, candidate: Candidate) -> FloatArray:
        """Out of fold, float32 [N, C]."""
        if candidate not in self._probabilities:
            self._probabilities[candidate] = out_of_fold_probabilities(
                self.features(candidate),
                self.targets,
                self.groups,
                classes=len(self.sample.label_space.names),
                seed=self.seed,
            )
        return self._probabilities[candidate]

    def compare(self, candidates: Mapping[str, Candidate], usual: str, because: str) -> Choice:
        """Keep the usual candidate, unless another one is better by more than the noise.

        Args:
            candidates: by name.
            because: why the usual one is the usual one, in words.
        """
        found = {name: self.probabilities(candidate) for name, candidate in candidates.items()}
        task = self.sample.label_space.task
        scores = {name: score(task, self.targets, own) for name, own in found.items()}
        best = max(scores, key=lambda name: scores[name])
        listed = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        words = f"{figure(task)} of a probe on {len(self.targets)} training pictures: {listed}"
        if best == usual:
            return Choice(usual, f"{usual} ({words})")
        share = better(task, self.targets, self.groups, found[best], found[usual], self.seed)
        words = f"{best} is better in {share:.0%} of resamples; {words}"
        if share < SURELY:
            return Choice(usual, f"{usual}, {because}: not surely worse ({words})")
        return Choice(best, f"{best} ({words})")


def score(task: Task, targets: IntArray, probabilities: FloatArray) -> float:
    """Macro-F1, or of several labels mAP; 0 where it is not defined."""
    return headline(task, targets, probabilities).get(_FIGURES[task][0], 0.0)


def better(
    task: Task,
    targets: IntArray,
    groups: IntArray,
    new: FloatArray,
    old: FloatArray,
    seed: int,
) -> float:
    """In what share of resamples by group `new` scores higher (Field and Welsh 2007)."""
    bootstrap = GroupBootstrap(len(targets), groups, resamples=RESAMPLES, seed=seed)
    truth, known = indicator(targets, new.shape[1]), known_entries(targets)

    def samples(probabilities: FloatArray) -> npt.NDArray[np.float64]:
        if task == "multilabel":
            return mean_over_classes(ranking_samples(bootstrap, truth, probabilities, known)[1])
        named = indicator(predicted_classes(probabilities), new.shape[1])
        return count_samples(bootstrap, truth, named).macro_f1

    return float(np.mean(samples(new) > samples(old)))


def figure(task: Task) -> str:
    """What `score` is called."""
    return _FIGURES[task][1]


def _sample(train: Manifest, backbone: Backbone, seed: int, device: str) -> Manifest:
    parameters = sum(parameter.numel() for parameter in backbone.module.parameters())
    count = PROBE_PICTURES
    if device == "cpu":
        count = int(np.clip(CPU_BUDGET / parameters, MINIMUM_PICTURES, PROBE_PICTURES))
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = {train.records[position].id for position in order[:count]}
    return train.where(lambda record: record.id in chosen)

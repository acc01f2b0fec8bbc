"""Label issues: pictures whose label a classifier that never saw them disagrees with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax

from taxon.auditing.auc import separation
from taxon.auditing.evidence import NO_FEATURES, Evidence, IntArray, gather
from taxon.auditing.finding import Finding, NotRun
from taxon.auditing.wording import percent, pictures
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.data import Manifest
from taxon.data.plan import Plan, Relabel
from taxon.preprocessing import Preprocessing

FEWEST = 5  # pictures of a class; with fewer, out of fold it is hardly known
LOWEST_AUC = 0.8  # a class that is told worse than this cannot be judged
# On photos with planted errors, most pictures whose own label has a higher probability than this
# were merely hard.
DOUBTFUL = 0.1
SURE, REFUTED = 0.9, 0.05  # for a proposal to relabel
BLOCK = 5_000  # pictures that are cross-validated together
MANY = 0.02

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Doubt:
    """One picture whose labels look wrong: in words, and as they should be."""

    position: int
    words: str
    labels: tuple[str, ...]
    sure: bool


def check_label_issues(evidence: Evidence) -> list[Finding] | NotRun:
    """Cross-validated frozen-feature probabilities, and cleanlab's confident learning on them."""
    if evidence.probabilities is not None:
        return find_label_issues(evidence.manifest, evidence.probabilities)
    if evidence.features is None:
        return NotRun(evidence.features_from or NO_FEATURES)
    if len(np.unique(evidence.units)) < 2 * FEWEST:
        return NotRun("too few pictures that are independent of each other")
    probabilities = _out_of_fold(evidence, evidence.features)
    if not _judged(evidence.manifest, probabilities):
        return NotRun("the features do not tell the classes well enough to judge their labels")
    return find_label_issues(evidence.manifest, probabilities)


def out_of_fold_probabilities(
    manifest: Manifest, features: FloatArray, *, seed: int = 0
) -> FloatArray:
    """Probabilities of a logistic regression on frozen features, out of fold.

    Pictures of one group, of the same content and near-duplicates are never in two folds.
    Above 5,000 pictures, each random block of that size is cross-validated by itself.

    Args:
        features: float32 [N, F], in the order of the records.

    Returns:
        float32 [N, C].

    Raises:
        ValueError: fewer than two independent pictures, or not one row for each picture.
    """
    evidence = gather(
        manifest, features=features, features_from="", spec=Preprocessing(), seed=seed, search=True
    )
    return _out_of_fold(evidence, features)


def find_label_issues(manifest: Manifest, probabilities: FloatArray) -> list[Finding]:
    """Find labels that held-out probabilities contradict: confident learning (Northcutt et al.
    2021), by cleanlab.

    Classes of which there are too few pictures, or that the probabilities hardly tell from the
    rest, are not judged.

    Args:
        probabilities: float [N, C] of a classifier that was not trained on these pictures: out
            of fold, or of a model on a part that it never saw.

    Returns:
        at most one finding, the most doubtful pictures first.

    Raises:
        ValueError: not one row for each picture and one column for each class.
    """
    expected = (len(manifest), len(manifest.label_space.names))
    if probabilities.shape != expected:
        raise ValueError(f"probabilities have shape {probabilities.shape}, expected {expected}")
    judged = _judged(manifest, probabilities)
    if not judged:
        return []
    find = _of_classes if manifest.label_space.task == "multiclass" else _of_tags
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab's, on classes that are rare
        doubts = find(manifest, probabilities.astype(np.float64), judged)
    if not doubts:
        return []
    records = [manifest.records[doubt.position] for doubt in doubts]
    share = len(doubts) / len(manifest)
    plan = Plan(
        relabel=tuple(
            Relabel(
                id=record.id,
                was=record.marked,
                labels=doubt.labels,
                reason=doubt.words,
                accept=False,  # of clean data most doubts are the classifier's own mistakes
            )
            for record, doubt in zip(records, doubts, strict=True)
            if doubt.sure
        )
    )
    return [
        Finding(
            check="label_issues",
            severity="warning" if share > MANY else "info",
            record_ids=tuple(record.id for record in records),
            details=tuple(doubt.words for doubt in doubts),
            score=share,
            advice=f"{pictures(len(doubts))} ({percent(share)}) may have a wrong label"
            f"{_first(records[0].id, doubts[0].words, len(doubts))} "
            f"{_proposal(len(plan.relabel))}",
            plan=plan,
        )
    ]


def _first(name: str, words: str, count: int) -> str:
    if count == 1:
        return f" ({name}: {words}). It may be merely hard: look at it."
    return f", the most doubtful first (say {name}: {words}). Some are merely hard: look at them."


def _proposal(count: int) -> str:
    if not count:
        return "None is so clear that the plan proposes to relabel it."
    what = f"{count} clearest" if count > 1 else "clearest"
    return f"The plan proposes to relabel the {what}; nothing happens until you accept it there."


def _out_of_fold(evidence: Evidence, features: FloatArray) -> FloatArray:
    from taxon.models import probe

    manifest = evidence.manifest
    targets, units = manifest.targets(), evidence.units
    classes = len(manifest.label_space.names)
    result = np.zeros((len(manifest), classes), np.float32)
    for rows in _blocks(units, evidence.seed):
        result[rows] = probe.out_of_fold_probabilities(
            features[rows], targets[rows], units[rows], classes=classes, seed=evidence.seed
        )
    return result


def _blocks(units: IntArray, seed: int) -> list[npt.NDArray[np.intp]]:
    """Random blocks of whole units, of about the same size."""
    count = -(-len(units) // BLOCK)
    numbers = int(units.max()) + 1 if len(units) else 0
    block_of_unit = np.random.default_rng(seed).permutation(numbers) % max(count, 1)
    return [np.flatnonzero(block_of_unit[units] == block) for block in range(count)]


def _judged(manifest: Manifest, probabilities: FloatArray) -> list[int]:
    """The classes that the probabilities tell well enough, and of which there are enough."""
    targets = manifest.targets()
    names = range(len(manifest.label_space.names))
    everyone = np.arange(len(manifest))
    judged = []
    for column in names:
        rows = everyone if targets.ndim == 1 else np.flatnonzero(targets[:, column] != UNKNOWN)
        has = targets == column if targets.ndim == 1 else targets[rows, column] == 1
        told = separation(probabilities[rows, column], has, rows)
        if min(has.sum(), (~has).sum()) >= FEWEST and told and told.auc >= LOWEST_AUC:
            judged.append(column)
    enough = 2 if targets.ndim == 1 else 1
    return judged if len(judged) >= enough else []


def _of_classes(manifest: Manifest, probabilities: Floats, judged: Sequence[int]) -> list[_Doubt]:
    names = manifest.label_space.names
    targets = manifest.targets()
    rows = np.flatnonzero(np.isin(targets, judged))
    given = np.searchsorted(judged, targets[rows])
    said = _calibrated(np.clip(probabilities[np.ix_(rows, np.array(judged))], 1e-9, None), given)
    doubts = []
    for row in _confident_learning(given, said):
        looks_like = int(said[row].argmax())
        name, probability = names[judged[looks_like]], said[row, looks_like]
        own = names[judged[given[row]]]
        doubts.append(
            _Doubt(
                position=int(rows[row]),
                words=f"labelled {own}, looks like {name} ({probability:.2f})",
                labels=(name,),
                sure=bool(probability >= SURE and said[row, given[row]] <= REFUTED),
            )
        )
    return doubts


def _of_tags(manifest: Manifest, probabilities: Floats, judged: Sequence[int]) -> list[_Doubt]:
    """The same for each tag, as a choice between yes and no."""
    names = manifest.label_space.names
    targets = manifest.targets()
    wrong: dict[int, list[tuple[float, str, str]]] = {}
    for column in judged:
        known = np.flatnonzero(targets[:, column] != UNKNOWN)
        given = targets[known, column]
        yes = np.clip(probabilities[known, column], 1e-9, 1 - 1e-9)
        said = _calibrated(np.stack([1 - yes, yes], axis=1), given)
        for row in _confident_learning(given, said):
            has, name = bool(given[row]), names[column]
            words = f"has {name}" if has else f"lacks {name}"
            words += f", which looks {'absent' if has else 'present'} ({said[row].max():.2f})"
            own = float(said[row, int(has)])
            wrong.setdefault(int(known[row]), []).append((own, words, name))
    doubts = []
    for row in sorted(wrong, key=lambda key: min(wrong[key])):
        found = sorted(wrong[row])
        clearest = {name for own, _, name in found if own <= REFUTED}
        doubts.append(
            _Doubt(
                position=row,
                words="; ".join(words for _, words, _ in found),
                labels=tuple(sorted(set(manifest.records[row].marked) ^ clearest)),
                sure=bool(clearest),
            )
        )
    return doubts


def _calibrated(probabilities: Floats, given: npt.NDArray[np.int64]) -> Floats:
    """Apply the temperature (Guo et al. 2017) that fits the labels best.

    A probe on few pictures with many features says 0.99 where it is right half of the time, and a
    strongly regularised one 0.7 where it is always right.
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(probabilities)
    own = np.arange(len(given)), given

    def loss(power: float) -> float:
        scaled = power * logits
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[own]))

    power = float(minimize_scalar(loss, bounds=(0.02, 5.0), method="bounded").x)
    return np.asarray(softmax(power * logits, axis=1))


def _confident_learning(given: npt.NDArray[np.int64], said: Floats) -> list[int]:
    """Rows whose label is contradicted, the worst first."""
    from cleanlab.filter import find_label_issues as contradicted

    ranked = contradicted(
        given,
        said,
        filter_by="low_normalized_margin",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    return [int(row) for row in ranked if said[row, given[row]] <= DOUBTFUL]

"""Drift: whether the parts of a given split show the same kind of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from taxon.auditing.auc import Separation, separation
from taxon.auditing.columns import FAMILIES, SIMPLE
from taxon.auditing.evidence import NO_LOOKS, Evidence
from taxon.auditing.finding import Finding, NotRun
from taxon.auditing.wording import percent
from taxon.data.manifest import SPLITS

MAX_PICTURES = 5_000  # of both parts together
FEWEST_UNITS = 10
MENTION_FROM, WARN_FROM = 0.6, 0.75
EXAMPLES = 24
NOTABLE_DIFFERENCE = 0.15  # of two distributions (Kolmogorov and Smirnov)
SHIFT = 0.1  # total variation of the class shares


def check_drift(evidence: Evidence) -> list[Finding] | NotRun:
    """Test whether a classifier can tell the training part from each other part (a classifier
    two-sample test, Lopez-Paz and Oquab 2017), on features or else on simple columns."""
    parts = [part for part in SPLITS if evidence.manifest.split_counts().get(part)]
    if "train" not in parts or len(parts) < 2:
        return NotRun("the data bring no split to compare the parts of")
    shifts = [finding for part in parts[1:] for finding in _label_shift(evidence, part)]
    if evidence.features is None and evidence.looks is None:
        return shifts or NO_LOOKS
    found = [_drift(evidence, part, len(parts) - 1) for part in parts[1:]]
    return [finding for finding in found if finding is not None] + shifts


def _drift(evidence: Evidence, part: str, tried: int) -> Finding | None:
    """Compare one part with the training part."""
    rng = np.random.default_rng(evidence.seed)
    both = [_at_most(evidence.positions(name), rng) for name in ("train", part)]
    positions = np.concatenate(both)
    is_part = np.arange(len(positions)) >= len(both[0])
    units = evidence.units[positions]
    if min(len(np.unique(units[side])) for side in (is_part, ~is_part)) < FEWEST_UNITS:
        return None
    scores = _scores(evidence, positions, is_part)
    result = separation(scores, is_part, units, tried=tried)
    if result is None or not result.sure or result.auc < MENTION_FROM:
        return None
    strange = positions[is_part][np.argsort(-scores[is_part], kind="stable")][:EXAMPLES]
    return Finding(
        check=f"drift_{part}",
        severity="warning" if result.auc >= WARN_FROM else "info",
        record_ids=tuple(evidence.records[position].id for position in strange),
        score=result.auc,
        advice=_advice(evidence, part, result, both),
    )


def _at_most(positions: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    limit = MAX_PICTURES // 2
    return positions if len(positions) <= limit else np.sort(rng.choice(positions, limit, False))


def _scores(
    evidence: Evidence, positions: npt.NDArray[np.intp], is_part: npt.NDArray[np.bool_]
) -> npt.NDArray[np.floating]:
    """How much like the other part each picture looks, out of fold, float [N]."""
    units = evidence.units[positions]
    if evidence.features is not None:
        from taxon.models.probe import out_of_fold_probabilities

        return out_of_fold_probabilities(
            evidence.features[positions],
            is_part.astype(np.int64),
            units,
            classes=2,
            seed=evidence.seed,
        )[:, 1]
    from taxon.auditing.shortcuts import out_of_fold_scores

    looks = [evidence.looks[position] for position in positions] if evidence.looks else []
    columns = np.hstack([family.columns(looks) for family in FAMILIES.values()])
    return out_of_fold_scores(columns, is_part[:, None], units, evidence.seed)[:, 0]


def _advice(
    evidence: Evidence, part: str, result: Separation, both: Sequence[npt.NDArray[np.intp]]
) -> str:
    what = "features" if evidence.features is not None else "simple columns (size, colour, ...)"
    far = result.auc >= WARN_FROM
    kind = "they are pictures of different kinds" if far else "they differ, though not much"
    advice = (
        f"a classifier on {what} can tell {part} from train ({result.in_words()}; 0.5 is "
        f"guessing): {kind}.{_most_different(evidence, part, both)} "
        f"Shown are those of {part} that are least like train. If use looks like {part}, add such "
        "pictures to train; else let taxon make the split (`taxon split --resplit`)."
    )
    sampled = len(both[0]) + len(both[1])
    if sampled < len(evidence.positions("train", part)):
        advice += f" Looked at: a sample of {sampled:,} pictures."
    return advice


def _most_different(evidence: Evidence, part: str, both: Sequence[npt.NDArray[np.intp]]) -> str:
    """Name the simple column that differs most, in words."""
    from scipy.stats import ks_2samp

    if evidence.looks is None:
        return ""
    differences: dict[str, tuple[float, str]] = {}
    for name, (value, written) in SIMPLE.items():
        train, other = (
            np.array([value(evidence.looks[position]) for position in side]) for side in both
        )
        test = ks_2samp(train, other)
        medians = (
            f" The {name} differs most: median {written(float(np.median(train)))} in train, "
            f"{written(float(np.median(other)))} in {part}."
        )
        differences[name] = (float(test.statistic) if test.pvalue < 0.001 else 0.0, medians)
    largest, words = max(differences.values(), key=lambda item: item[0])
    return words if largest >= NOTABLE_DIFFERENCE else ""


def _label_shift(evidence: Evidence, part: str) -> list[Finding]:
    """Class shares that differ more than chance would make them."""
    from scipy.stats import chi2_contingency

    sides = [evidence.positions(name) for name in ("train", part)]
    held = np.stack([evidence.truth[side].sum(axis=0).astype(np.float64) for side in sides])
    known = np.stack([evidence.known[side].mean(axis=0) for side in sides])
    # What is unknown is taken for as frequent as what is known.
    table = held / np.where(known > 0, known, np.inf)
    present = np.flatnonzero((table.sum(axis=0) > 0) & (known > 0).all(axis=0))
    table = table[:, present]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return []
    shares = table / table.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    # Pictures of one unit come together: as if there were only as many as units.
    rows = evidence.positions("train", part)
    independent = len(np.unique(evidence.units[rows])) / len(rows)
    sure = independent * float(known[:, present].mean())
    if distance < SHIFT or chi2_contingency(table * sure).pvalue > 0.001:
        return []
    worst = int(np.argmax(np.abs(shares[0] - shares[1])))
    name = evidence.manifest.label_space.names[present[worst]]
    return [
        Finding(
            check=f"label_shift_{part}",
            severity="info",
            record_ids=(),
            score=distance,
            advice=f"the classes have other shares in {part} than in train (most of all "
            f"'{name}': {percent(shares[0, worst])} in train, {percent(shares[1, worst])} in "
            f"{part}; in all {percent(distance)} would have to change). Look at macro-F1, and let "
            "taxon make the split if use has the shares of train.",
        )
    ]

"""Shortcuts: classes that can be told without looking at what the picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from taxon.auditing.auc import Separation, separation
from taxon.auditing.columns import FAMILIES, Family
from taxon.auditing.evidence import NO_LOOKS, BoolArray, Evidence, IntArray
from taxon.auditing.finding import Finding, NotRun, Severity
from taxon.auditing.wording import pictures

MAX_PICTURES = 5_000
FEWEST_UNITS = 10  # of a class; of fewer nothing can be said
EXAMPLES = 24
MOST_NAMED = 5
TREES = 30
# A class is mentioned when its AUC reaches the first figure, and warned of when the lower end of
# its interval reaches the second. Chosen on real photos: how well a picture compresses, and the
# colour of what fills it up to the border, come with what it shows; a camera does not.
LIMITS = {
    "file_size": (0.85, 0.9),
    "resolution": (0.8, 0.8),
    "format": (0.6, 0.65),
    "camera": (0.6, 0.65),
    "border_colour": (0.9, 0.95),
    "mean_colour": (0.9, 0.98),
}

Floats = npt.NDArray[np.float64]


def check_shortcuts(evidence: Evidence) -> list[Finding] | NotRun:
    """Cross-validate a small model on each family of simple columns.

    A class is named when its AUC against the rest is high and cannot be chance, corrected for
    all classes and families. Pictures of one unit are never in two folds.
    """
    if evidence.looks is None:
        return NO_LOOKS
    chosen = _sample(evidence)
    truth, units = evidence.truth[chosen], evidence.units[chosen]
    known = evidence.known[chosen]
    rows_of = [np.flatnonzero(column) for column in known.T]
    classes = [
        column for column, rows in enumerate(rows_of) if _enough(truth[rows, column], units[rows])
    ]
    if not classes:
        return []
    looks = [evidence.looks[position] for position in chosen]
    tried = len(classes) * len(FAMILIES)
    found = []
    for name, family in FAMILIES.items():
        columns = family.columns(looks)
        if not len(columns) or np.ptp(columns, axis=0).max() < 1e-9:
            continue  # the same for all pictures
        scores = _scores_where_known(
            columns, truth[:, classes], known[:, classes], units, evidence.seed
        )
        told: dict[int, Separation] = {}
        for place, column in enumerate(classes):
            rows = rows_of[column]
            result = separation(scores[rows, place], truth[rows, column], units[rows], tried=tried)
            if result is not None and result.sure and result.auc >= LIMITS[name][0]:
                told[column] = result
        if told:
            best = max(told, key=lambda column: told[column].auc)
            order = np.argsort(-scores[:, classes.index(best)], kind="stable")
            examples = [chosen[row] for row in order if truth[row, best]][:EXAMPLES]
            found.append(_finding(evidence, name, family, told, examples, len(chosen)))
    return found


def _scores_where_known(
    columns: Floats, truth: BoolArray, known: BoolArray, units: IntArray, seed: int
) -> Floats:
    """`out_of_fold_scores` of each class on the pictures where it is known, elsewhere NaN.

    Classes that are known of the same pictures are scored together, which is faster.
    """
    result = np.full(truth.shape, np.nan)
    patterns, of_class = np.unique(known, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        rows, classes = np.flatnonzero(pattern), np.flatnonzero(of_class.ravel() == number)
        result[np.ix_(rows, classes)] = out_of_fold_scores(
            columns[rows], truth[np.ix_(rows, classes)], units[rows], seed
        )
    return result


def out_of_fold_scores(columns: Floats, truth: BoolArray, units: IntArray, seed: int) -> Floats:
    """Probabilities of each class by extremely randomised trees (Geurts et al. 2006) that saw
    neither the picture nor its unit.

    Args:
        columns: float64 [N, K].
        truth: bool [N, C].

    Returns:
        float64 [N, C].
    """
    from sklearn.ensemble import ExtraTreesClassifier

    from taxon.models.probe import folds

    result = np.tile(truth.mean(axis=0), (len(truth), 1))
    # The first class of each picture stands for all where it has several.
    strata = np.where(truth.any(axis=1), truth.argmax(axis=1), truth.shape[1])
    if len(np.unique(units)) < 2:
        return result
    for train, held_out in folds(strata, units, seed):
        leaf = max(3, len(train) // 200)
        model = ExtraTreesClassifier(
            TREES, min_samples_leaf=leaf, random_state=seed, max_features=None
        )
        usable = np.flatnonzero(truth[train].any(axis=0) & ~truth[train].all(axis=0))
        if not len(usable):
            continue
        model.fit(columns[train], np.squeeze(truth[np.ix_(train, usable)].astype(np.int8)))
        said = model.predict_proba(columns[held_out])
        said = said if isinstance(said, list) else [said]  # of one class alone
        result[np.ix_(held_out, usable)] = np.stack([each[:, 1] for each in said], axis=1)
    return result


def _sample(evidence: Evidence) -> npt.NDArray[np.intp]:
    count = len(evidence.records)
    if count <= MAX_PICTURES:
        return np.arange(count)
    rng = np.random.default_rng(evidence.seed)
    return np.sort(rng.choice(count, MAX_PICTURES, replace=False))


def _enough(has_class: BoolArray, units: IntArray) -> bool:
    return all(len(np.unique(units[rows])) >= FEWEST_UNITS for rows in (has_class, ~has_class))


def _finding(
    evidence: Evidence,
    name: str,
    family: Family,
    told: dict[int, Separation],
    examples: Sequence[int],
    looked_at: int,
) -> Finding:
    looks = evidence.looks or ()
    names = evidence.manifest.label_space.names
    ranked = sorted(told, key=lambda column: -told[column].auc)
    best = ranked[0]
    surely = max(result.low for result in told.values()) >= LIMITS[name][1]
    severity: Severity = "warning" if surely else "info"
    others = ", ".join(f"'{names[c]}' ({told[c].auc:.2f})" for c in ranked[1:MOST_NAMED])
    more = f" So can {others}" if others else ""
    if len(ranked) > MOST_NAMED:
        more += f" and {len(ranked) - MOST_NAMED} more"
    more += "." if more else ""
    sample = ""
    if looked_at < len(evidence.records):
        sample = f" Looked at: a sample of {pictures(looked_at)}."
    advice = (
        f"'{names[best]}' can be told from the rest by {family.words} alone "
        f"({told[best].in_words()}; 0.5 is guessing).{more} "
    )
    if name == "mean_colour":
        advice += "If colour is not what the class means, a model may learn it all the same: "
    else:
        advice += "A model may learn that in place of what the pictures show: "
    advice += "test it on pictures from another source, or take them all in the same way."
    return Finding(
        check=f"shortcut_{name}",
        severity=severity,
        record_ids=tuple(evidence.records[position].id for position in examples),
        details=tuple(family.describe(looks[position]) for position in examples),
        score=told[best].auc,
        advice=advice + sample,
    )

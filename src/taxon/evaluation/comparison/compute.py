"""Compare the answers of two runs to the same pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from taxon.core.errors import DataError
from taxon.core.labels import UNKNOWN, UNKNOWN_MARK, LabelSpace
from taxon.evaluation.comparison.figures import (
    Answers,
    CommonPictures,
    Side,
    Targets,
    class_figures,
    paired,
    paired_figures,
)
from taxon.evaluation.comparison.summary import (
    Change,
    ChangedPicture,
    ClassComparison,
    McNemarTest,
    PairedMetrics,
    Verdict,
)
from taxon.evaluation.comparison.wording import verdict_sentences
from taxon.metrics.paired import holm, mcnemar

# Standard errors of a difference that is found in four of five samples (Cohen 1988): the 97.5 %
# and 80 % quantiles of the normal distribution.
DETECTABLE = 1.96 + 0.84


def compare_answers(
    a: Answers,
    b: Answers,
    targets: Targets,
    label_space: LabelSpace,
    *,
    groups: Targets | None = None,
    about: dict[str, Any],
) -> PairedMetrics:
    """Say whether B is better than A, and where.

    Each run names classes by its own policy. Differences are B less A; their 95 % intervals come
    from a paired percentile bootstrap over groups (1,000 resamples, seed 0, the same for both),
    their p-values from swaps over groups (`taxon.metrics.paired.swap_test`). The figures of each
    run and their intervals are those of `taxon.evaluation.compute_metrics`. McNemar's exact test
    is over pictures; one with an unknown tag is neither right nor wrong.

    Args:
        a, b: predictions for the same pictures, rows in the same order.
        targets: int64 [N] of class positions (multiclass) or [N, C] of 0, 1 and, where it is
            unknown, -1 (multilabel).
        groups: int64 [N]; None makes each picture its own group.
        about: kept as it is; must have a JSON form.

    Raises:
        DataError: there are no pictures, other classes, or a probability that is no number.
        ValueError: the two tables are of other pictures.
    """
    if a.table.ids != b.table.ids or len(targets) != len(a.table):
        raise ValueError("both runs must have answered the same pictures, in the same order")
    for answers in (a, b):
        if answers.table.names != label_space.names:
            raise DataError("the two runs have other classes than the data; compare like with like")
        if not np.isfinite(answers.table.probabilities).all():
            raise DataError("a probability is not a number; the model's output cannot be scored")
    common = CommonPictures.of(targets, label_space, groups)
    sides = Side.of(a, common), Side.of(b, common)
    metrics = PairedMetrics(
        task=label_space.task,
        n=len(targets),
        groups=None if groups is None else common.bootstrap.groups,
        classes=label_space.names,
        verdict=Verdict(outcome="undecided", figure=_headline(label_space), detectable=None),
        figures=paired_figures(common, *sides),
        mcnemar=_mcnemar(common, *sides),
        per_class=_per_class(common, *sides),
        changed=_changed(common, a.table.ids, *sides),
        about=about,
    )
    verdict = _verdict(metrics)
    metrics = metrics.model_copy(update={"verdict": verdict})
    words = verdict_sentences(metrics)
    return metrics.model_copy(update={"verdict": verdict.model_copy(update={"sentences": words})})


def _headline(label_space: LabelSpace) -> str:
    return "top1" if label_space.task == "multiclass" else "macro_f1"


def _verdict(metrics: PairedMetrics) -> Verdict:
    outcome = metrics.headline.outcome if metrics.changed else "same"
    found = {"outcome": outcome, "detectable": _detectable(metrics)}
    return metrics.verdict.model_copy(update=found)


def _detectable(metrics: PairedMetrics) -> float | None:
    """From the interval's width: for a normal distribution it is 2 times 1.96 standard errors."""
    interval = metrics.headline.difference.ci95
    if interval is None or interval[0] == interval[1]:
        return None
    return (interval[1] - interval[0]) / (2 * 1.96) * DETECTABLE


def _mcnemar(common: CommonPictures, a: Side, b: Side) -> McNemarTest:
    only_a, only_b = int((a.right & ~b.right).sum()), int((~a.right & b.right).sum())
    return McNemarTest(
        both_right=int((a.right & b.right).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((common.judged & ~a.right & ~b.right).sum()),
        p_value=mcnemar(only_a, only_b),
    )


def _per_class(common: CommonPictures, a: Side, b: Side) -> dict[str, ClassComparison]:
    scores = class_figures(common, a), class_figures(common, b)
    wins = [_only_one_right(common, a, b, position) for position in range(common.truth.shape[1])]
    tested = [position for position, counts in enumerate(wins) if counts is not None]
    p_values = {position: mcnemar(*(wins[position] or (0, 0))) for position in tested}
    corrected = dict(zip(tested, holm(list(p_values.values())).tolist(), strict=True))
    found = {}
    for position, name in enumerate(common.label_space.names):
        of_a, of_b = scores[0][position], scores[1][position]
        samples = a.counts, b.counts
        only_a, only_b = wins[position] or (0, 0)
        found[name] = ClassComparison(
            support=of_a.support,
            recall=paired(
                common.bootstrap,
                of_a.recall,
                of_b.recall,
                *(one.recall[position] for one in samples),
            ),
            f1=paired(common.bootstrap, of_a.f1, of_b.f1, *(one.f1[position] for one in samples)),
            only_a=only_a,
            only_b=only_b,
            p_value=p_values.get(position),
            corrected=corrected.get(position),
        )
    return found


def _only_one_right(
    common: CommonPictures, a: Side, b: Side, position: int
) -> tuple[int, int] | None:
    """Pictures of a class (of several: where it is known) that only A, only B has right; None
    where there is no picture."""
    if common.label_space.task == "multiclass":
        rows = common.targets == position
        right_a, right_b = a.right[rows], b.right[rows]
    else:
        rows = common.targets[:, position] != UNKNOWN
        present = common.targets[rows, position] == 1
        right_a, right_b = (side.said[rows, position] == present for side in (a, b))
    if not len(right_a):
        return None
    return int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())


def _changed(
    common: CommonPictures, ids: tuple[str, ...], a: Side, b: Side
) -> tuple[ChangedPicture, ...]:
    differ = a.said != b.said
    differ = (differ if common.known is None else differ & common.known).any(axis=1)
    kinds: list[tuple[Change, npt.NDArray[np.bool_]]] = [
        ("broken", a.right & ~b.right),
        ("fixed", ~a.right & b.right),
        ("different", common.judged & ~a.right & ~b.right & differ),
        ("not_judged", ~common.judged & differ),
    ]
    changed = []
    for kind, mask in kinds:
        rows = np.flatnonzero(mask)
        for row in rows[np.argsort(-b.confidence[rows], kind="stable")].tolist():
            changed.append(
                ChangedPicture(
                    id=ids[row],
                    change=kind,
                    truth=_truth(common, row),
                    answer_a=_labels(common, a.said[row]),
                    confidence_a=float(a.confidence[row]),
                    answer_b=_labels(common, b.said[row]),
                    confidence_b=float(b.confidence[row]),
                )
            )
    return tuple(changed)


def _truth(common: CommonPictures, row: int) -> tuple[str, ...]:
    target = common.targets[row]
    if common.label_space.task == "multiclass":
        return (common.label_space.names[target],)
    unknown = (f"{UNKNOWN_MARK}{name}" for name in _labels(common, target == UNKNOWN))
    return (*_labels(common, target == 1), *unknown)


def _labels(common: CommonPictures, row: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(common.label_space.names[position] for position in np.flatnonzero(row))

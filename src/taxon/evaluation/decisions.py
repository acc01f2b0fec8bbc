"""What the decision policy does on a part: abstention, prediction sets, out-of-scope flags."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.decision.answers import named_classes, wrong_answers
from taxon.decision.decide import mark
from taxon.decision.sets import prediction_sets
from taxon.evaluation.summary import ScopeFigures, SelectiveFigures, SetFigures
from taxon.metrics import Figure, GroupBootstrap, undefined
from taxon.metrics.bootstrap import WEIGHTS_AT_ONCE
from taxon.metrics.figure import ABSENT

CURVE_POINTS = 200
NONE_SURE = "no answer is sure"

Targets = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def selective_figures(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    bootstrap: GroupBootstrap,
) -> SelectiveFigures | None:
    """Measure how many mistakes are left when the least confident answers are held back.

    At the policy's own limit a picture out of scope is not answered either; the curve is that of
    the confidence alone.

    Of several tags, pictures of which one is unknown are left out: nobody can tell whether their
    answers are right. None where no picture is left.
    """
    judged = (targets != UNKNOWN).reshape(len(targets), -1).all(axis=1)
    if not judged.any():
        return None
    marks = mark(table.probabilities, table.scope, label_space, policy)
    wrong = wrong_answers(table.probabilities, targets, label_space, policy).astype(np.float64)
    confidence = marks.confidence
    sure = (judged & ~marks.unsure & ~marks.out_of_scope).astype(np.float64)
    risk = undefined(NONE_SURE)
    if sure.any():
        figure = Figure.of(float(wrong[sure > 0].mean()))
        concerned = bootstrap.concerned(sure > 0)
        samples = bootstrap.means(wrong * sure, sure)
        risk = bootstrap.with_share_interval(figure, samples, concerned)
    order = np.argsort(-confidence, kind="stable")
    order = order[judged[order]]
    area = Figure.of(float(_areas(wrong[order], np.ones((len(order), 1)))[0]))
    coverage = Figure.of(float(sure[judged].mean()))
    answered = bootstrap.means(sure, judged.astype(np.float64))
    # Without a limit every answer is sure, and not only those that were seen.
    limited = policy.abstain_below > 0 or policy.scope is not None
    attach = bootstrap.with_share_interval if limited else bootstrap.with_interval
    return SelectiveFigures(
        curve=_curve(confidence[order], wrong[order]),
        area=bootstrap.with_interval(area, _area_samples(wrong, order, bootstrap)),
        abstain_below=policy.abstain_below,
        coverage=attach(coverage, answered),
        risk=risk,
    )


def _curve(confidence: Floats, wrong: Floats) -> tuple[tuple[float, float, float], ...]:
    """(coverage, risk, confidence) at the limits that separate answers; both arrays ranked."""
    last_of_equals = np.flatnonzero(np.append(confidence[:-1] > confidence[1:], True))
    if len(last_of_equals) > CURVE_POINTS:
        places = np.linspace(0, len(last_of_equals) - 1, CURVE_POINTS).round().astype(int)
        last_of_equals = last_of_equals[places]
    answered = last_of_equals + 1
    risks = np.cumsum(wrong)[last_of_equals] / answered
    points = zip(answered / len(wrong), risks, confidence[last_of_equals], strict=True)
    return tuple((float(share), float(risk), float(limit)) for share, risk, limit in points)


def _areas(wrong: Floats, weights: npt.NDArray[np.floating]) -> Floats:
    """The area under the risk-coverage curve with these weights, [N, R] -> float64 [R].

    The mean risk over all coverages (Geifman & El-Yaniv 2017), pictures in the order of falling
    confidence.
    """
    answered = np.cumsum(weights, axis=0, dtype=np.float64)
    mistakes = np.cumsum(weights * wrong[:, None], axis=0, dtype=np.float64)
    risks = np.divide(mistakes, answered, out=np.zeros_like(answered), where=answered > 0)
    total = answered[-1]
    empty = np.full(len(total), np.nan)
    return np.asarray(np.divide((risks * weights).sum(axis=0), total, out=empty, where=total > 0))


def _area_samples(wrong: Floats, order: npt.NDArray[np.intp], bootstrap: GroupBootstrap) -> Floats:
    groups = bootstrap.group_of_picture[order]
    blocks = []
    for weights in bootstrap.weights():
        # A part of the resamples at a time: [N, r] of all would be large.
        step = max(1, WEIGHTS_AT_ONCE // len(order))
        for start in range(0, weights.shape[1], step):
            blocks.append(_areas(wrong[order], weights[groups, start : start + step]))
    return np.concatenate(blocks)


def set_figures(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    bootstrap: GroupBootstrap,
) -> SetFigures | None:
    """Measure coverage and size of the prediction sets; None where the policy has none."""
    if policy.sets is None or label_space.task != "multiclass":
        return None
    named = named_classes(table.probabilities, label_space, policy)
    inside = prediction_sets(table.probabilities, named, policy.sets)
    held = inside[np.arange(len(targets)), targets].astype(np.float64)
    sizes = inside.sum(axis=1).astype(np.float64)

    def of_class(position: int) -> Figure:
        members = (targets == position).astype(np.float64)
        if not members.any():
            return undefined(ABSENT)
        figure = Figure.of(float(held[members > 0].mean()))
        concerned = bootstrap.concerned(members > 0)
        samples = bootstrap.means(held * members, members)
        return bootstrap.with_share_interval(figure, samples, concerned)

    return SetFigures(
        method=policy.sets.method,
        promised=policy.sets.coverage,
        coverage=bootstrap.with_share_interval(
            Figure.of(float(held.mean())), bootstrap.means(held)
        ),
        size=bootstrap.with_interval(Figure.of(float(sizes.mean())), bootstrap.means(sizes)),
        per_class={name: of_class(place) for place, name in enumerate(label_space.names)},
    )


def scope_figures(
    table: PredictionTable,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    bootstrap: GroupBootstrap,
) -> ScopeFigures | None:
    """Measure how many pictures are flagged; None where the policy or the model flags none."""
    if policy.scope is None or table.scope is None:
        return None
    marks = mark(table.probabilities, table.scope, label_space, policy)
    flagged = marks.out_of_scope.astype(np.float64)
    figure = Figure.of(float(flagged.mean()))
    return ScopeFigures(
        method=policy.scope.method,
        limit=policy.scope.limit,
        flagged=bootstrap.with_share_interval(figure, bootstrap.means(flagged)),
    )

"""Parity: is an artefact equal to the trained model, on the golden and on the user's pictures?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from taxon.bundle import ModelSpec
from taxon.bundle.artefact import Precision
from taxon.bundle.golden import GoldenSet, differing_inputs
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.decision.answers import answer_confidence, answer_scores, named_classes
from taxon.exporters.parity_report import (
    CHANGED_SHARE,
    ENOUGH_PICTURES,
    FAR_OFF,
    FEATURE_TOLERANCE,
    GROSS_MEAN,
    GROSS_SHARE,
    MAX_DROP,
    PROBABILITY_TOLERANCE,
    SCOPE_TOLERANCE,
    SIGNIFICANT,
    ParityReport,
)
from taxon.inference import Backend, Outputs


def compare_golden(
    backend: Backend,
    golden: GoldenSet,
    spec: ModelSpec,
    *,
    precision: Precision = "float32",
    inexact: Sequence[int] | None = None,
    features: FloatArray | None = None,
) -> ParityReport:
    """Compare a backend with the outputs that are stored in the bundle; needs no torch.

    Args:
        inexact: what `differing_inputs` gives, where it is known.
        features: float32 [K, F], of the trained model, which the bundle does not store; None
            leaves them uncompared.
    """
    if inexact is None:
        inexact = differing_inputs(golden, spec.preprocessing)
    return compare_outputs(
        Outputs(golden.logits, golden.probabilities, golden.scope, features),
        backend.run(golden.images),
        [f"golden/{position:02d}.png" for position in range(len(golden.images))],
        spec,
        artefact=backend.name,
        reference="the trained model",
        source="golden",
        precision=precision,
        inexact=tuple(inexact),
    )


def compare_backends(
    candidate: Backend,
    reference: Backend,
    batches: Iterable[ImageBatch],
    names: list[str],
    spec: ModelSpec,
    *,
    targets: npt.NDArray[np.int64] | None = None,
    precision: Precision = "float32",
    max_drop: float = MAX_DROP,
) -> ParityReport:
    """Compare two backends on prepared pictures.

    Args:
        batches: uint8 [N, 3, H, W] each.
        names: one a picture, for the report.
        targets: int64 [N] or [N, C], where labels are known.
        precision: of the candidate.
        max_drop: what macro-F1 may lose by fewer bits.
    """
    expected, actual = [], []
    for images in batches:
        expected.append(reference.run(images))
        actual.append(candidate.run(images))
    return compare_outputs(
        joined(expected),
        joined(actual),
        names,
        spec,
        artefact=candidate.name,
        reference=reference.name,
        targets=targets,
        precision=precision,
        max_drop=max_drop,
    )


def run_all(backend: Backend, images: ImageBatch, *, batch: int = 16) -> Outputs:
    """Compute any number of prepared pictures, uint8 [K, 3, H, W]."""
    starts = range(0, len(images), batch)
    return joined([backend.run(images[start : start + batch]) for start in starts])


def joined(parts: list[Outputs]) -> Outputs:
    """Put the outputs of batches together."""
    scopes = None
    if any(part.scope is not None for part in parts):
        scopes = np.concatenate([_scopes(part) for part in parts])
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        scopes,
        _joined_features(parts),
    )


def _joined_features(parts: list[Outputs]) -> FloatArray | None:
    given = [part.features for part in parts if part.features is not None]
    return np.concatenate(given) if given else None


def compare_outputs(
    expected: Outputs,
    actual: Outputs,
    names: list[str],
    spec: ModelSpec,
    *,
    artefact: str,
    reference: str,
    source: Literal["golden", "data"] = "data",
    precision: Precision = "float32",
    inexact: tuple[int, ...] = (),
    targets: npt.NDArray[np.int64] | None = None,
    max_drop: float = MAX_DROP,
) -> ParityReport:
    """Compare what an artefact gave with what a reference gave for the same pictures.

    Float32 must give the same probabilities within 1e-4 and the same answers, and where it gives
    features, and the reference too, the same within 1e-4 of their length. With fewer bits the
    share of changed answers on at least 200 pictures may not be above what is allowed (by an exact
    binomial test, so that one picture more is no reason), and macro-F1 may lose at most `max_drop`;
    on fewer pictures only what is grossly wrong fails.

    Args:
        names: one a picture.
        inexact: golden pictures whose input is not exact.
        targets: int64 [N] or [N, C], where labels are known.
    """
    left, right = expected.probabilities, actual.probabilities
    difference = np.abs(left - right)
    # A NaN compares as "not larger" with any tolerance, so it counts as the largest error.
    difference = np.where(np.isfinite(difference), difference, 1.0)
    changed = _changed(left, right, spec) | _unsure_changed(left, right, spec)
    changed |= ~np.isfinite(right).all(axis=1)
    scope_difference = None
    if spec.policy.scope is not None:
        scopes = _scopes(expected), _scopes(actual)
        # A score that is missing or no number would never flag anything.
        changed |= ~np.isfinite(scopes[1])
        changed |= _flag_changed(*scopes, spec.policy.scope.limit)
        scope_difference = _largest(*scopes)
    feature_difference = None
    if expected.features is not None and actual.features is not None:
        feature_difference = _relative(expected.features, actual.features)
    changed_rows = np.flatnonzero(changed)
    figures = {} if targets is None else _figures(left, right, targets, spec)
    allowed = CHANGED_SHARE[precision]
    largest, mean = float(difference.max()), float(difference.mean())
    if precision == "float32":
        within = largest <= PROBABILITY_TOLERANCE and (scope_difference or 0.0) <= SCOPE_TOLERANCE
        within &= (feature_difference or 0.0) <= FEATURE_TOLERANCE
        passed = within and not len(changed_rows)
    elif len(names) >= ENOUGH_PICTURES and source == "data":
        passed = not above(len(changed_rows), len(names), allowed)
        passed = passed and _drop(figures) <= max_drop
    else:
        allowed = GROSS_SHARE
        passed = mean <= GROSS_MEAN and len(changed_rows) <= allowed * len(names)
        passed = passed and _drop(figures) <= max_drop
    return ParityReport(
        artefact=artefact,
        reference=reference,
        source=source,
        precision=precision,
        pictures=len(names),
        largest_difference=largest,
        mean_difference=mean,
        largest_scope_difference=scope_difference,
        largest_feature_difference=feature_difference,
        changed_decisions=len(changed_rows),
        changed_pictures=tuple(names[position] for position in changed_rows[:20]),
        inexact_inputs=inexact,
        tolerance=PROBABILITY_TOLERANCE if precision == "float32" else None,
        allowed_changed=allowed,
        allowed_drop=max_drop,
        passed=bool(passed and not inexact),
        **figures,
    )


def _figures(
    left: FloatArray, right: FloatArray, targets: npt.NDArray[np.int64], spec: ModelSpec
) -> dict[str, Any]:
    """Macro-F1, and for multiclass top-1, of both sides."""
    sides = {"reference": left, "artefact": right}
    figures = {
        "macro_f1": {name: answers_macro_f1(side, targets, spec) for name, side in sides.items()}
    }
    if spec.label_space.task == "multiclass":
        figures["top1"] = {
            name: float(np.mean(named_classes(side, spec.label_space, spec.policy) == targets))
            for name, side in sides.items()
        }
    return figures


def answers_macro_f1(
    probabilities: FloatArray, targets: npt.NDArray[np.int64], spec: ModelSpec
) -> float:
    """Return the macro-F1 of what the policy answers, 0 to 1; abstention left aside."""
    # Imported here: a server compares golden pictures, and has no scikit-learn.
    from taxon.metrics.selection import selection_score

    space, policy = spec.label_space, spec.policy
    if space.task == "multilabel":
        return selection_score("multilabel", targets, probabilities, policy.thresholds)
    named = np.eye(len(space.names))[named_classes(np.nan_to_num(probabilities), space, policy)]
    return selection_score("multiclass", targets, named)


def above(changed: int, pictures: int, share: float) -> bool:
    """Whether so many changes are more than chance makes of a share, at the level of 5 %."""
    if changed <= share * pictures:
        return False
    # In logarithms: of thousands of pictures the factors are beyond what a float holds.
    ways = math.lgamma(pictures + 1)
    fewer = (
        math.exp(
            ways
            - math.lgamma(count + 1)
            - math.lgamma(pictures - count + 1)
            + count * math.log(share)
            + (pictures - count) * math.log1p(-share)
        )
        for count in range(changed)
    )
    return 1 - math.fsum(fewer) < SIGNIFICANT


def _drop(figures: dict[str, Any]) -> float:
    if "macro_f1" not in figures:
        return 0.0
    return float(figures["macro_f1"]["reference"] - figures["macro_f1"]["artefact"])


def _scopes(outputs: Outputs) -> FloatArray:
    """Its scores, float32 [N]; NaN, which no tolerance allows, where a backend gives none."""
    if outputs.scope is None:
        return np.full(len(outputs.logits), np.nan, np.float32)
    return outputs.scope


def _largest(left: FloatArray, right: FloatArray) -> float:
    difference = np.abs(left - right)
    return float(np.where(np.isfinite(difference), difference, FAR_OFF).max())


def _relative(left: FloatArray, right: FloatArray) -> float:
    """The largest distance of a picture's features, [N, F] each, by the length of the left ones."""
    apart = np.linalg.norm(left.astype(np.float64) - right, axis=1)
    lengths = np.linalg.norm(left.astype(np.float64), axis=1)
    shares = np.divide(apart, lengths, out=np.where(apart > 0, FAR_OFF, 0.0), where=lengths > 0)
    return float(np.where(np.isfinite(shares), shares, FAR_OFF).max())


def _unsure_changed(left: FloatArray, right: FloatArray, spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """bool [N]: one answer is unsure and the other is not, and neither as good as on the limit."""
    limit = spec.policy.abstain_below
    before, after = (
        answer_confidence(each, spec.label_space, spec.policy) for each in (left, right)
    )
    clear = np.abs(before - limit) > PROBABILITY_TOLERANCE
    return np.asarray(((before < limit) != (after < limit)) & clear)


def _flag_changed(left: FloatArray, right: FloatArray, limit: float) -> npt.NDArray[np.bool_]:
    """bool [N]: one is flagged and the other is not, and neither as good as on the limit."""
    level = np.float32(limit)
    return np.asarray(
        ((left < level) != (right < level)) & (np.abs(left - level) > SCOPE_TOLERANCE)
    )


def _changed(left: FloatArray, right: FloatArray, spec: ModelSpec) -> npt.NDArray[np.bool_]:
    """bool [N]: the answer differs, and not because two classes were as good as equal."""
    if spec.label_space.task == "multilabel":
        thresholds = np.array(spec.policy.thresholds, np.float32)
        differs = (left >= thresholds) != (right >= thresholds)
        clear = np.abs(left - thresholds) > PROBABILITY_TOLERANCE
        return np.asarray((differs & clear).any(axis=1))
    scores = answer_scores(left, spec.label_space, spec.policy)
    answers = named_classes(right, spec.label_space, spec.policy)
    margin = scores.max(axis=1) - scores[np.arange(len(left)), answers]
    # Costs are sums of probabilities times what a mistake costs.
    unit = 1.0 if spec.policy.costs is None else float(np.max(spec.policy.costs)) or 1.0
    return np.asarray(~(margin <= PROBABILITY_TOLERANCE * unit))

"""Parity: is an artefact equal to the trained model, on the golden and on the user's pictures?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from taxon.bundle import ModelSpec
from taxon.bundle.golden import GoldenSet, differing_inputs
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.decision.answers import answer_confidence, answer_scores, named_classes
from taxon.inference import Backend, Outputs

PROBABILITY_TOLERANCE = 1e-4
SCOPE_TOLERANCE = 1e-2  # standard deviations
FAR_OFF = 1e9  # in place of a difference that is no number, which JSON does not have


class ParityReport(BaseModel):
    """The comparison of an artefact with a reference.

    Attributes:
        artefact, reference: what was compared with what.
        source: the `golden` examples of the bundle, or the user's `data`.
        pictures: how many.
        largest_difference, mean_difference: of probabilities, 0 to 1.
        largest_scope_difference: of out-of-scope scores, in standard deviations; None where the
            model has none.
        changed_decisions: pictures with another answer, ties left aside.
        changed_pictures: the first of them, by position or name.
        inexact_inputs: golden pictures that preprocessing does not turn into the exact input.
        top1: share of right answers of reference and artefact, where labels are known.
        tolerance: what the largest difference may be.
        passed: within tolerance, no changed decision, exact inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact: str
    reference: str
    source: Literal["golden", "data"]
    pictures: int
    largest_difference: float
    mean_difference: float
    largest_scope_difference: float | None = None
    changed_decisions: int
    changed_pictures: tuple[str, ...] = ()
    inexact_inputs: tuple[int, ...] = ()
    top1: dict[str, float] | None = None
    tolerance: float = PROBABILITY_TOLERANCE
    passed: bool

    def sentence(self) -> str:
        """Say the result in one line."""
        verdict = "equal" if self.passed else "NOT EQUAL"
        inexact = f", {len(self.inexact_inputs)} inputs inexact" if self.inexact_inputs else ""
        scope = ""
        if self.largest_scope_difference is not None and not self.passed:
            scope = (
                f", out-of-scope scores {self.largest_scope_difference:.1e} apart (allowed "
                f"{SCOPE_TOLERANCE:.0e})"
            )
        return (
            f"{self.artefact} and {self.reference} are {verdict} on {self.pictures} "
            f"{'golden pictures' if self.source == 'golden' else 'pictures'}: largest difference "
            f"{self.largest_difference:.1e} (allowed {self.tolerance:.0e}), "
            f"{self.changed_decisions} changed decisions{inexact}{scope}"
        )


def compare_golden(backend: Backend, golden: GoldenSet, spec: ModelSpec) -> ParityReport:
    """Compare a backend with the outputs that are stored in the bundle; needs no torch."""
    expected = Outputs(golden.logits, golden.probabilities, golden.scope)
    actual = backend.run(golden.images)
    names = [f"golden/{position:02d}.png" for position in range(len(golden.images))]
    return _report(
        backend.name,
        "the trained model",
        "golden",
        [expected],
        [actual],
        names,
        spec,
        inexact=tuple(differing_inputs(golden, spec.preprocessing)),
    )


def compare_backends(
    candidate: Backend,
    reference: Backend,
    batches: Iterable[ImageBatch],
    names: list[str],
    spec: ModelSpec,
    *,
    targets: npt.NDArray[np.int64] | None = None,
) -> ParityReport:
    """Compare two backends on prepared pictures.

    Args:
        batches: uint8 [N, 3, H, W] each.
        names: one a picture, for the report.
        targets: int64 [N], where labels are known (multiclass).
    """
    expected, actual = [], []
    for images in batches:
        expected.append(reference.run(images))
        actual.append(candidate.run(images))
    return _report(
        candidate.name, reference.name, "data", expected, actual, names, spec, targets=targets
    )


def _report(
    artefact: str,
    reference: str,
    source: Literal["golden", "data"],
    expected: list[Outputs],
    actual: list[Outputs],
    names: list[str],
    spec: ModelSpec,
    *,
    inexact: tuple[int, ...] = (),
    targets: npt.NDArray[np.int64] | None = None,
) -> ParityReport:
    left = np.concatenate([outputs.probabilities for outputs in expected])
    right = np.concatenate([outputs.probabilities for outputs in actual])
    difference = np.abs(left - right)
    # A NaN compares as "not larger" with any tolerance, so it counts as the largest error.
    difference = np.where(np.isfinite(difference), difference, 1.0)
    changed = _changed(left, right, spec) | _unsure_changed(left, right, spec)
    scopes = _scopes(expected), _scopes(actual)
    scope_difference = None
    if spec.policy.scope is not None:
        changed |= _flag_changed(*scopes, spec.policy.scope.limit)
        scope_difference = _largest(*scopes)
    changed_rows = np.flatnonzero(changed)
    largest = float(difference.max())
    within = largest <= PROBABILITY_TOLERANCE and (scope_difference or 0.0) <= SCOPE_TOLERANCE
    top1 = None
    if targets is not None and spec.label_space.task == "multiclass":
        top1 = {
            name: float(np.mean(named_classes(each, spec.label_space, spec.policy) == targets))
            for name, each in (("reference", left), ("artefact", right))
        }
    return ParityReport(
        artefact=artefact,
        reference=reference,
        source=source,
        pictures=len(names),
        largest_difference=largest,
        mean_difference=float(difference.mean()),
        largest_scope_difference=scope_difference,
        changed_decisions=len(changed_rows),
        changed_pictures=tuple(names[position] for position in changed_rows[:20]),
        inexact_inputs=inexact,
        top1=top1,
        passed=within and not len(changed_rows) and not inexact,
    )


def _scopes(outputs: list[Outputs]) -> FloatArray:
    """All scores, float32 [N]; NaN, which no tolerance allows, where a backend gives none."""
    missing = np.float32(np.nan)
    return np.concatenate(
        [
            np.full(len(each.logits), missing) if each.scope is None else each.scope
            for each in outputs
        ]
    )


def _largest(left: FloatArray, right: FloatArray) -> float:
    difference = np.abs(left - right)
    return float(np.where(np.isfinite(difference), difference, FAR_OFF).max())


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

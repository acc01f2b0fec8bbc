"""Parity: is an artefact equal to the trained model, on the golden and on the user's pictures?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from taxon.bundle import ArtefactInfo, ModelSpec
from taxon.bundle.artefact import Precision
from taxon.bundle.golden import GoldenSet, differing_inputs
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.decision.answers import answer_confidence, answer_scores, named_classes
from taxon.inference import Backend, Outputs

PROBABILITY_TOLERANCE = 1e-4
SCOPE_TOLERANCE = 1e-2  # standard deviations
# With fewer bits the values move; what may not move is what is answered (docs/adr/0025).
CHANGED_SHARE: dict[Precision, float] = {"float32": 0.0, "float16": 0.005, "int8": 0.02}
MAX_DROP = 0.01
SIGNIFICANT = 0.05
ENOUGH_PICTURES = 200
# On fewer pictures one changed answer is more than any share: only what is grossly wrong fails.
GROSS_MEAN = 0.05
GROSS_SHARE = 0.25
FAR_OFF = 1e9  # in place of a difference that is no number, which JSON does not have
Pair = dict[str, float]


class ParityReport(BaseModel):
    """The comparison of an artefact with a reference.

    Attributes:
        artefact, reference: what was compared with what.
        source: the `golden` examples of the bundle, or the user's `data`.
        precision: of the artefact, which decides what is allowed.
        pictures: how many.
        largest_difference, mean_difference: of probabilities, 0 to 1.
        largest_scope_difference: of out-of-scope scores, in standard deviations; None where the
            model has none.
        changed_decisions: pictures with another answer, ties left aside.
        changed_pictures: the first of them, by position or name.
        inexact_inputs: golden pictures that preprocessing does not turn into the exact input.
        macro_f1, top1: of the `reference`'s and the `artefact`'s answers, where labels are known;
            top-1 for multiclass only.
        tolerance: what the largest difference may be; None: any, the answers count.
        allowed_changed: the share of answers that may change.
        allowed_drop: what macro-F1 may lose.
        passed: within what is allowed, on exact inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact: str
    reference: str
    source: Literal["golden", "data"]
    precision: Precision = "float32"
    pictures: int
    largest_difference: float
    mean_difference: float
    largest_scope_difference: float | None = None
    changed_decisions: int
    changed_pictures: tuple[str, ...] = ()
    inexact_inputs: tuple[int, ...] = ()
    macro_f1: Pair | None = None
    top1: Pair | None = None
    tolerance: float | None = PROBABILITY_TOLERANCE
    allowed_changed: float = 0.0
    allowed_drop: float = MAX_DROP
    passed: bool

    def sentence(self) -> str:
        """Say the result in one line."""
        exact = self.precision == "float32"
        verdict = "equal" if self.passed else "NOT EQUAL"
        if not exact:
            verdict = "equal enough" if self.passed else "NOT EQUAL ENOUGH"
        changed = f"{self.changed_decisions} changed decisions"
        if not exact:
            changed = f"{self.changed_decisions} changed decisions ({self._changed_share:.1%})"
            if self.tolerance is None and self.allowed_changed:
                changed += f" (allowed {self.allowed_changed:.1%})"
        parts = [self._difference(), changed]
        if self.macro_f1 is not None and not exact:
            before, after = self.macro_f1["reference"], self.macro_f1["artefact"]
            parts.append(f"macro-F1 {before:.1%} -> {after:.1%} (may lose {self.allowed_drop:.1%})")
        if self.inexact_inputs:
            parts.append(f"{len(self.inexact_inputs)} inputs inexact")
        if exact and self.largest_scope_difference is not None and not self.passed:
            parts.append(
                f"out-of-scope scores {self.largest_scope_difference:.1e} apart (allowed "
                f"{SCOPE_TOLERANCE:.0e})"
            )
        return (
            f"{self.artefact} and {self.reference} are {verdict} on {self.pictures} "
            f"{'golden pictures' if self.source == 'golden' else 'pictures'}: {', '.join(parts)}"
        )

    @property
    def _changed_share(self) -> float:
        return self.changed_decisions / max(1, self.pictures)

    def _difference(self) -> str:
        if self.tolerance is None:
            return (
                f"differences {self.mean_difference:.1e} in the mean, at most "
                f"{self.largest_difference:.1e}"
            )
        return f"largest difference {self.largest_difference:.1e} (allowed {self.tolerance:.0e})"


def artefact_reports(info: ArtefactInfo) -> list[ParityReport]:
    """The comparisons that artefact.json holds."""
    return [ParityReport.model_validate(each) for each in info.parity]


def compare_golden(
    backend: Backend, golden: GoldenSet, spec: ModelSpec, *, precision: Precision = "float32"
) -> ParityReport:
    """Compare a backend with the outputs that are stored in the bundle; needs no torch."""
    return compare_outputs(
        Outputs(golden.logits, golden.probabilities, golden.scope),
        backend.run(golden.images),
        [f"golden/{position:02d}.png" for position in range(len(golden.images))],
        spec,
        artefact=backend.name,
        reference="the trained model",
        source="golden",
        precision=precision,
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
    )


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

    Float32 must give the same probabilities within 1e-4 and the same answers. With fewer bits the
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
        changed |= _flag_changed(*scopes, spec.policy.scope.limit)
        scope_difference = _largest(*scopes)
    changed_rows = np.flatnonzero(changed)
    figures = {} if targets is None else _figures(left, right, targets, spec)
    allowed = CHANGED_SHARE[precision]
    largest, mean = float(difference.max()), float(difference.mean())
    if precision == "float32":
        within = largest <= PROBABILITY_TOLERANCE and (scope_difference or 0.0) <= SCOPE_TOLERANCE
        passed = within and not len(changed_rows)
    elif len(names) >= ENOUGH_PICTURES and source == "data":
        passed = not _above(len(changed_rows), len(names), allowed)
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


def _above(changed: int, pictures: int, share: float) -> bool:
    """Whether so many changes are more than chance makes of a share, at the level of 5 %."""
    fewer = (
        math.comb(pictures, count) * share**count * (1 - share) ** (pictures - count)
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

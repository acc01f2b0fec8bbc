"""What a comparison of an artefact with its model found; reads without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from taxon.bundle import ArtefactInfo
from taxon.bundle.artefact import Precision

PROBABILITY_TOLERANCE = 1e-4
SCOPE_TOLERANCE = 1e-2  # standard deviations
FEATURE_TOLERANCE = 1e-4  # of a picture's features, by their length
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
        largest_feature_difference: of the features of a picture: the length of the difference by
            that of the features; None where they were not compared.
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
    largest_feature_difference: float | None = None
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
            if self.passed and self.allowed_changed == GROSS_SHARE:
                verdict = "not grossly different (too few pictures to say more)"
        changed = f"{self.changed_decisions} changed decisions"
        if not exact:
            changed = f"{self.changed_decisions} changed decisions ({self._changed_share:.1%})"
            if self.allowed_changed != GROSS_SHARE:
                changed += f" (allowed {self.allowed_changed:.1%} beyond chance)"
        parts = [self._difference(), changed]
        if self.largest_feature_difference is not None:
            parts.append(
                f"features at most {self.largest_feature_difference:.1e} of their size apart "
                f"(allowed {FEATURE_TOLERANCE:.0e})"
            )
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

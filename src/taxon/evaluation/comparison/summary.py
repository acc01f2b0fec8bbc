"""The content of compare.json."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from taxon.core.labels import Task
from taxon.metrics import Figure

SCHEMA_VERSION = 1

Outcome = Literal["better", "worse", "undecided", "same"]
Change = Literal["broken", "fixed", "different", "not_judged"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Paired(_Frozen):
    """One figure of both runs on the same pictures.

    Attributes:
        a, b: its values.
        difference: B less A, with the 95 % interval of the paired bootstrap.
        p_value: of the swap test (`taxon.metrics.paired`); None for mAP, which does not follow
            from sums over pictures, and where the difference is undefined.
        lower_is_better: as for log loss.
    """

    a: Figure
    b: Figure
    difference: Figure
    p_value: float | None = None
    lower_is_better: bool = False

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether B is better or worse beyond chance: the interval leaves out 0, and the swap
        test, which holds for few differing pictures where the bootstrap does not, agrees. Where
        every resample has the same difference there is no interval, and the test decides."""
        value, interval = self.difference.value, self.difference.ci95
        if value is None or (self.p_value is not None and self.p_value >= 0.05):
            return "undecided"
        if interval is None and self.p_value is None:
            return "undecided"
        low, high = (value, value) if interval is None else interval
        if low <= 0 <= high:
            return "undecided"
        return "better" if (low > 0) != self.lower_is_better else "worse"


class McNemarTest(_Frozen):
    """How many pictures each has right, and McNemar's exact test.

    Attributes:
        both_right, only_a, only_b, both_wrong: pictures; of several tags a picture is right where
            every tag is, and counts only where every tag is known, as for `exact_match`.
        p_value: two-sided; pictures are taken for independent.
    """

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p_value: float

    @property
    def judged(self) -> int:
        """How many pictures are right or wrong."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong


class ClassComparison(_Frozen):
    """One class.

    Attributes:
        support: how many pictures are of the class.
        recall, f1: without swap test.
        only_a, only_b: pictures that only the one has right: of the pictures of the class, or for
            multilabel of all where it is known whether they have it.
        p_value: of McNemar's exact test on them; None where there is no such picture.
        corrected: the same, corrected for the number of classes (Holm).
    """

    support: int
    recall: Paired
    f1: Paired
    only_a: int
    only_b: int
    p_value: float | None
    corrected: float | None


class ChangedPicture(_Frozen):
    """A picture that the two answer differently, at least one of them wrongly.

    Attributes:
        id: the picture's.
        change: `broken` (A right, B wrong), `fixed` (A wrong, B right), `different` (both wrong,
            in other ways) or `not_judged`: some of its tags are unknown, and the answers differ in
            one that is known.
        truth: its class or tags; a tag that is unknown has a `?` before it.
        answer_a, answer_b: the classes named.
        confidence_a, confidence_b: that the answer is right, 0 to 1.
    """

    id: str
    change: Change
    truth: tuple[str, ...]
    answer_a: tuple[str, ...]
    confidence_a: float
    answer_b: tuple[str, ...]
    confidence_b: float


class Verdict(_Frozen):
    """Whether B is better.

    Attributes:
        outcome: `better` or `worse` beyond chance, `undecided`, or `same`: every answer is.
        figure: by which: `top1`, for multilabel `macro_f1`.
        detectable: a true difference of this size would be found in four of five such samples of
            pictures; None where nothing can be said of it.
        sentences: in words, the first being the verdict.
    """

    outcome: Outcome
    figure: str
    detectable: float | None
    sentences: tuple[str, ...] = ()


class PairedMetrics(_Frozen):
    """All that was found of two runs on the same pictures; the content of compare.json.

    Attributes:
        n: number of pictures.
        groups: number of their groups, by which intervals and swaps are drawn; None: each picture
            stands for itself.
        figures: by name, the verdict's first: `top1`, `macro_f1`, `balanced_accuracy`,
            `log_loss` and for a taxonomy `average_distance`; for multilabel `macro_f1`,
            `micro_f1`, `mAP`, `exact_match`, `log_loss`. What each means is as in `Metrics`.
        changed: broken first, then fixed, different and not judged; the most confident of B first.
        about: where it comes from: both runs, the pictures, what was left out.
    """

    schema_version: int = SCHEMA_VERSION
    task: Task
    n: int
    groups: int | None
    classes: tuple[str, ...]
    verdict: Verdict
    figures: dict[str, Paired]
    mcnemar: McNemarTest
    per_class: dict[str, ClassComparison]
    changed: tuple[ChangedPicture, ...]
    about: dict[str, Any] = {}

    @property
    def headline(self) -> Paired:
        """The figure by which the verdict is given."""
        return self.figures[self.verdict.figure]

    def of(self, change: Change) -> tuple[ChangedPicture, ...]:
        """Return the pictures that changed in this way."""
        return tuple(picture for picture in self.changed if picture.change == change)

    def as_json(self) -> dict[str, Any]:
        """Return plain lists, dicts, numbers and strings, ready for `core.files.write_json`."""
        return self.model_dump(mode="json")

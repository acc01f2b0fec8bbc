"""The content of metrics.json.

Every figure is a `Figure`: its value, its 95 % interval where it has one, and a reason where the
data do not define it. How intervals are made: see `taxon.metrics.bootstrap`.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from taxon.core.labels import Task
from taxon.core.taxonomy import TaxonomyRule
from taxon.metrics import Figure, undefined

SCHEMA_VERSION = 1
# Of figures that older metrics.json lack.
NOT_COMPUTED = undefined("not computed by the version of taxon that wrote this file")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RankingFigures(_Frozen):
    """A one-versus-rest figure: the mean over the defined classes, and each class by name."""

    macro: Figure
    per_class: dict[str, Figure]


class ClassFigures(_Frozen):
    """One class.

    Attributes:
        precision, recall, f1: 0 to 1; undefined for a class without pictures. Recall is what
            medicine calls sensitivity.
        specificity: of the pictures that are not of the class, the share that is not named so;
            undefined where every picture is of the class.
        support: how many pictures are of the class.
        unknown: multilabel: of how many it is unknown; they count nowhere in the class's figures.
            Left out of the JSON where it is 0.
        threshold: multilabel: the probability from which the class is named; else None.
    """

    precision: Figure
    recall: Figure
    specificity: Figure = NOT_COMPUTED
    f1: Figure
    support: int
    unknown: int = 0
    threshold: float | None

    @model_serializer(mode="wrap")
    def _without_none_unknown(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `unknown` out where nothing is."""
        content: dict[str, Any] = dump(self)
        return {key: item for key, item in content.items() if key != "unknown" or item}


class UncalibratedFigures(_Frozen):
    """The same figures of the probabilities before calibration: of the logits as they are."""

    ece: Figure
    nll: Figure
    brier: Figure


class CalibrationFigures(_Frozen):
    """How far the probabilities can be taken at their word.

    Attributes:
        ece: expected calibration error over 15 bins of equal width, 0 to 1 (Guo et al. 2017).
        ece_by_chance: the ECE that a perfectly calibrated classifier would show on as many answers,
            and the range of 95 % of such classifiers (`calibration_error_by_chance`).
        adaptive_ece: as `ece`, over 15 bins that hold equally many answers (Nguyen & O'Connor 2015;
            Nixon et al. 2019).
        brier: mean squared error of the probabilities.
        nll: negative log-likelihood in nats, the same as `log_loss`.
        uncalibrated: without the policy's scale and bias, which tells what calibration brought.
        temperature: that the policy applies; None where it is not a single temperature.
    """

    ece: Figure
    ece_by_chance: Figure = NOT_COMPUTED
    adaptive_ece: Figure = NOT_COMPUTED
    brier: Figure
    nll: Figure
    uncalibrated: UncalibratedFigures | None = None
    temperature: float | None


class LevelFigures(_Frozen):
    """One level of a taxonomy, with the probabilities of its classes summed.

    Attributes:
        level: 0 for the coarsest.
        classes: how many nodes it has.
        top1, macro_f1: 0 to 1.
    """

    level: int
    classes: int
    top1: Figure
    macro_f1: Figure


class TaxonomyFigures(_Frozen):
    """How near the answers are to the truth, where classes nest.

    Attributes:
        height: of the tree: edges from the root down to the deepest class.
        rule: by which the class was named; the probabilities, and so the levels, log loss, top-5
            and calibration, do not depend on it.
        mistake_height: mean height of the lowest common ancestor of truth and answer over the
            mistakes: 1 for a sibling, `height` for a class that shares nothing but the root
            (Bertinetto et al. 2020).
        average_distance: the same over all pictures, where right answers count 0.
        precision, recall, f1: overlap of the ancestors of answers and truths, 0 to 1
            (Kiritchenko et al. 2006).
    """

    height: int
    rule: TaxonomyRule
    mistake_height: Figure
    average_distance: Figure
    precision: Figure
    recall: Figure
    f1: Figure


class SelectiveFigures(_Frozen):
    """Risk and coverage: how many mistakes are left when the least confident answers are held back.

    Attributes:
        curve: (coverage, risk, confidence) at up to 200 limits, from few answers to all: the share
            of pictures that is answered, the share of mistakes among them, and the limit itself.
            A multilabel answer is a mistake where any of its tags is wrong or missing.
        area: under the curve (AURC, Geifman & El-Yaniv 2017); 0 is perfect.
        abstain_below: the policy's limit; 0: every answer is sure.
        coverage: the share of pictures that are answered: sure, and in scope.
        risk: the share of mistakes among them.
    """

    curve: tuple[tuple[float, float, float], ...]
    area: Figure
    abstain_below: float
    coverage: Figure
    risk: Figure


class SetFigures(_Frozen):
    """Prediction sets.

    Attributes:
        method: `lac` or `raps`.
        promised: the coverage that was fitted, 0 to 1.
        coverage: the share of sets that hold the true class.
        size: the mean number of classes in a set.
        per_class: the coverage of each class.
    """

    method: str
    promised: float
    coverage: Figure
    size: Figure
    per_class: dict[str, Figure]


class ScopeFigures(_Frozen):
    """Pictures flagged as out of scope.

    Attributes:
        method: `energy`, `nearest` or `both`.
        limit: below it a picture is flagged.
        flagged: the share of pictures that is flagged.
    """

    method: str
    limit: float
    flagged: Figure


class SliceFigures(_Frozen):
    """One slice: the pictures with one value of a column, or of a range of brightness, say.

    Attributes:
        column: its name; automatic ones are `brightness`, `sharpness` and `resolution`.
        value: of the column, or the range in words.
        n: how many pictures.
        figures: by their names in metrics.json, the first being the one slices are sorted by:
            `top1` (multilabel: `micro_f1`), then `macro_f1`.
        difference: of the first figure: the slice's less that of all other pictures, -1 to 1.
        p_value: that a random part of the pictures differs as much (`membership_test`), corrected
            for the number of slices (Holm 1979); None where it was not asked: the difference does
            not lie below 0 with all of its interval (or itself, where it has none). A slice of one
            or two groups can hardly have a small one.
    """

    column: str
    value: str
    n: int
    figures: dict[str, Figure]
    difference: Figure
    p_value: float | None = None

    @property
    def is_weak(self) -> bool:
        """Whether it is worse than all other pictures beyond chance, though many were looked at."""
        return self.p_value is not None and self.p_value < 0.05


class Metrics(_Frozen):
    """Everything that was measured on one part of the data; the content of metrics.json.

    Attributes:
        n: number of pictures.
        classes: their names, in the order of the confusion matrix.
        confusion: counts, row = true class, column = predicted class; None for multilabel.
        top1, top5, balanced_accuracy: 0 to 1; undefined for multilabel.
        cohen_kappa, matthews: -1 to 1, 0 is chance (Cohen 1960; Gorodkin 2004); undefined for
            multilabel.
        cohen_kappa_quadratic: for ordered classes, -1 to 1 (Cohen 1968); the reason says in which
            order. Undefined where the classes have none.
        log_loss: in nats.
        macro_f1, micro_f1, weighted_f1: 0 to 1; for multilabel at the policy's thresholds.
        macro_f1_at_half, micro_f1_at_half: for multilabel, with a threshold of 0.5 for every tag.
        hamming_loss: for multilabel, the share of all known yes and no that is wrong.
        exact_match: for multilabel, the share of pictures with every tag right, over those all of
            whose tags are known.
        label_ranking_average_precision: for multilabel, how high a picture's tags are ranked, over
            its known tags (Tsoumakas et al. 2010); 0 to 1.
        coverage: the share of pictures that are answered: neither unsure nor out of scope.
        levels: coarse to fine; empty unless the classes are a taxonomy.
        taxonomy: None unless they are.
        selective, sets, scope: what the policy's abstention, prediction sets and out-of-scope flag
            do on this part; None where it has none of it.
        slices: worst first.
        about: where the figures come from (part, model, fingerprint, pictures left out, ...).
    """

    schema_version: int = SCHEMA_VERSION
    task: Task
    n: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    top1: Figure
    top5: Figure
    balanced_accuracy: Figure
    log_loss: Figure
    macro_f1: Figure
    micro_f1: Figure
    weighted_f1: Figure
    cohen_kappa: Figure
    cohen_kappa_quadratic: Figure = NOT_COMPUTED
    matthews: Figure = NOT_COMPUTED
    macro_f1_at_half: Figure = NOT_COMPUTED
    micro_f1_at_half: Figure = NOT_COMPUTED
    hamming_loss: Figure = NOT_COMPUTED
    exact_match: Figure = NOT_COMPUTED
    label_ranking_average_precision: Figure = NOT_COMPUTED
    auc_roc: RankingFigures
    average_precision: RankingFigures
    per_class: dict[str, ClassFigures]
    calibration: CalibrationFigures
    coverage: Figure
    levels: tuple[LevelFigures, ...] = ()
    taxonomy: TaxonomyFigures | None = None
    selective: SelectiveFigures | None = None
    sets: SetFigures | None = None
    scope: ScopeFigures | None = None
    slices: tuple[SliceFigures, ...] = ()
    about: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if tuple(self.per_class) != self.classes:
            raise ValueError("per_class must have exactly the classes, in their order")
        return self

    def as_json(self) -> dict[str, Any]:
        """Return plain lists, dicts, numbers and strings, ready for `core.files.write_json`."""
        return self.model_dump(mode="json")

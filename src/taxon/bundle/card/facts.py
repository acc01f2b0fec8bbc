"""What a model card is written from, as plain values: it knows neither manifests nor metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxon.bundle.layout import BundleInfo, ModelSpec

if TYPE_CHECKING:
    # At run time it would bring scikit-learn along, before a wrong path is said.
    from taxon.metrics import Figure


@dataclass(frozen=True)
class PartFacts:
    """One part of the data.

    Attributes:
        name: `train`, `validation`, `calibration` or `test`.
        pictures: how many.
        groups: how many groups they are of; None where no picture has one.
        per_class: pictures of each class, in the order of the label space.
    """

    name: str
    pictures: int
    groups: int | None
    per_class: tuple[int, ...]


@dataclass(frozen=True)
class DataFacts:
    """The pictures of a run.

    Attributes:
        name: of the folder or table that they come from.
        parts: those that hold any.
        left_out: pictures and rows that could not be used.
        unknown: multilabel: how many annotations are unknown.
        notes: what reading and splitting said.
        warnings: what the audit before the training found, `warning: ...` or `error: ...`.
    """

    name: str
    parts: tuple[PartFacts, ...]
    left_out: int
    unknown: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def part(self, name: str) -> PartFacts | None:
        """The part of this name, where it holds pictures."""
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True)
class FigureRow:
    """One figure over all pictures, as text: `83.1 %`, and `78.2 to 87.4` or a reason."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class IndexedFigure:
    """One figure for `model-index`, where leaderboards look.

    Attributes:
        type: the Hub's name of the metric: `accuracy`, `f1`, ...
        name: for people.
        figure: with a value.
    """

    type: str
    name: str
    figure: Figure


@dataclass(frozen=True)
class ClassRow:
    """One class: how many pictures, and its figures as text, `83.1 % (78.2 to 87.4)`."""

    name: str
    pictures: int
    precision: str
    recall: str
    specificity: str
    f1: str


@dataclass(frozen=True)
class SliceRow:
    """The pictures with one value of a column, worse than all others beyond chance: a figure of
    theirs, and how far it is below that of all others, as text."""

    column: str
    value: str
    pictures: int
    figure: str
    difference: str


@dataclass(frozen=True)
class SlicedFacts:
    """What scoring subgroups apart has shown.

    Attributes:
        judged: how many slices were scored.
        weak: those that are worse than all other pictures beyond chance, the worst first.
        notes: which slices were not judged, and why.
    """

    judged: int = 0
    weak: tuple[SliceRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredFacts:
    """What was measured on the run's own test part.

    Attributes:
        pictures: how many were scored.
        sentence: the first figure in words.
        rows: the figures over all pictures.
        classes: in the order of the label space.
        sliced: by columns, and by what the pictures look like.
        indexed: for `model-index`.
        left_out: what was not scored, and why.
    """

    pictures: int
    sentence: str
    rows: tuple[FigureRow, ...]
    classes: tuple[ClassRow, ...]
    sliced: SlicedFacts
    indexed: tuple[IndexedFigure, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class CardFacts:
    """Everything that the card says.

    Attributes:
        info, spec: of the bundle.
        library: that the backbone comes from, as the Hub calls it: `timm` or `ultralytics`.
        data: the run's pictures.
        measured: None until the run's own test part was evaluated.
    """

    info: BundleInfo
    spec: ModelSpec
    library: str
    data: DataFacts
    measured: MeasuredFacts | None

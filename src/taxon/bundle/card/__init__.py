"""The model card: README.md of a model folder, in the format of the Hugging Face Hub."""

from taxon.bundle.card.facts import (
    CardFacts,
    ClassRow,
    DataFacts,
    FigureRow,
    IndexedFigure,
    MeasuredFacts,
    PartFacts,
    SlicedFacts,
    SliceRow,
)
from taxon.bundle.card.page import is_refreshable, model_card

__all__ = [
    "CardFacts",
    "ClassRow",
    "DataFacts",
    "FigureRow",
    "IndexedFigure",
    "MeasuredFacts",
    "PartFacts",
    "SliceRow",
    "SlicedFacts",
    "is_refreshable",
    "model_card",
]

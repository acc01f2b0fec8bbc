"""The pictures of the report: galleries, those behind the matrix's cells, explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.cells import NEW_PICTURES, cell_pictures
from taxon.evaluation.explain import Explained, Method
from taxon.evaluation.gallery import (
    DOUBTFUL,
    Shown,
    Targets,
    confident_mistakes,
    count_mistakes,
    doubtful_hits,
    label_errors,
)

EXPLAINED = 24


@dataclass(frozen=True)
class Card:
    """One picture of a gallery.

    Attributes:
        number: of its picture in the page; None where there is none.
        image: a data URI, or None.
        explained: the picture with what the model looked at, where it was asked for.
    """

    shown: Shown
    number: int | None
    image: str | None
    explained: Explained | None


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading, with a sentence on them."""

    key: str
    title: str
    note: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class PicturesView:
    """All pictures of the report.

    Attributes:
        galleries: those that have pictures.
        cells: by the key of a cell of the matrix: (id, confidence, number of the picture).
        images: by their numbers, the data URIs of pictures that are in no gallery.
        method, method_words: how answers were explained; empty where none was.
    """

    galleries: tuple[Gallery, ...]
    cells: dict[str, list[tuple[str, float, int]]]
    images: dict[int, str]
    method: str
    method_words: str

    @property
    def counts(self) -> dict[str, int]:
        """By the key of a cell, how many pictures there are of it."""
        return {key: len(entries) for key, entries in self.cells.items()}


@dataclass(frozen=True)
class Chosen:
    """Which pictures the report shows.

    Attributes:
        lists: those of the galleries, in the order of `TITLES`.
        in_cells: those of the matrix's cells, the most needed first.
        mistakes: how many there are in all.
        multilabel: whether the answers are tags.
    """

    lists: tuple[tuple[Shown, ...], ...]
    in_cells: tuple[Shown, ...]
    mistakes: int
    multilabel: bool

    @property
    def in_galleries(self) -> list[str]:
        """The ids of the galleries' pictures; one that is in two galleries twice."""
        return [shown.id for shown in chain.from_iterable(self.lists)]

    @property
    def to_explain(self) -> list[tuple[str, int]]:
        """The first of each gallery, then the second of each, ..., 24 answers, each once."""
        turns = (each for each in chain.from_iterable(zip_longest(*self.lists)) if each is not None)
        return list(dict.fromkeys((shown.id, shown.column) for shown in turns))[:EXPLAINED]

    def cut(self, most: int, matrix: Sequence[int]) -> Chosen:
        """Return `most` of each gallery, and those of the cells of a smaller matrix."""
        cells = {f"{row}-{column}" for row in matrix for column in matrix}
        return replace(
            self,
            lists=tuple(shown[:most] for shown in self.lists),
            in_cells=tuple(shown for shown in self.in_cells if shown.cell in cells),
        )


def choose_pictures(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    matrix: Sequence[int],
) -> Chosen:
    """Choose the pictures.

    Args:
        targets: int64 [N] or [N, C].
        matrix: positions of the classes that the confusion matrix shows; empty for multilabel.
    """
    case = (table, targets, label_space, policy)
    lists = (confident_mistakes(*case), label_errors(*case), doubtful_hits(*case))
    at_hand = {shown.id for shown in chain.from_iterable(lists)}
    in_cells = _affordable(cell_pictures(*case, matrix), at_hand) if matrix else []
    return Chosen(
        lists=tuple(tuple(shown) for shown in lists),
        in_cells=tuple(in_cells),
        mistakes=count_mistakes(*case),
        multilabel=label_space.task == "multilabel",
    )


def pictures_view(
    chosen: Chosen,
    uri: Callable[[str], str | None],
    method: Method | None,
    explained: Mapping[tuple[str, int], Explained],
) -> PicturesView:
    """Lay out the pictures.

    Args:
        uri: id -> a data URI, or None where there is no picture to show.
        method: by which `explained` was made.
        explained: by (id, position of the class).
    """
    numbers: dict[str, int] = {}
    for shown in chain(*chosen.lists, chosen.in_cells):
        if uri(shown.id) is not None:
            numbers.setdefault(shown.id, len(numbers))
    cells: defaultdict[str, list[tuple[str, float, int]]] = defaultdict(list)
    for shown in chosen.in_cells:
        if shown.id in numbers:
            cells[shown.cell].append((shown.id, round(shown.confidence, 4), numbers[shown.id]))
    notes, in_galleries = _notes(chosen), set(chosen.in_galleries)
    galleries = tuple(
        Gallery(
            key, title, notes[key], tuple(_card(each, uri, numbers, explained) for each in shown)
        )
        for (key, title), shown in zip(TITLES.items(), chosen.lists, strict=True)
        if shown
    )
    return PicturesView(
        galleries=galleries,
        cells=dict(cells),
        images={
            numbers[shown.id]: uri(shown.id) or ""
            for shown in chosen.in_cells
            if shown.id in numbers and shown.id not in in_galleries
        },
        method=method.name if method and explained else "",
        method_words=method.words if method and explained else "",
    )


TITLES = {
    "mistakes": "Most confident mistakes",
    "label-errors": "Labels that look wrong",
    "hits": "Least confident hits",
}


def _notes(chosen: Chosen) -> dict[str, str]:
    counts = [len(shown) for shown in chosen.lists]
    kind = "wrong tags" if chosen.multilabel else "wrong answers"
    right = "tags that were rightly named" if chosen.multilabel else "right answers"
    doubtful = f"{100 * DOUBTFUL:.0f} %"
    return {
        "mistakes": f"{counts[0]} of {chosen.mistakes:,} {kind}, the most confident first.",
        "label-errors": (
            f"{counts[1]} whose own label has at most {doubtful} probability, by cleanlab's label "
            "quality score. The label is wrong, or the picture is hard: look at it."
        ),
        "hits": f"{counts[2]} {right}, the least confident first: what is near to going wrong.",
    }


def _affordable(wanted: Sequence[Shown], at_hand: set[str]) -> list[Shown]:
    """Those that are in a gallery, and as many more as may be decoded."""
    left, chosen = NEW_PICTURES, []
    for shown in wanted:
        if shown.id not in at_hand:
            if not left:
                continue
            left -= 1
        chosen.append(shown)
    return chosen


def _card(
    shown: Shown,
    uri: Callable[[str], str | None],
    numbers: Mapping[str, int],
    explained: Mapping[tuple[str, int], Explained],
) -> Card:
    return Card(
        shown=shown,
        number=numbers.get(shown.id),
        image=uri(shown.id),
        explained=explained.get((shown.id, shown.column)),
    )

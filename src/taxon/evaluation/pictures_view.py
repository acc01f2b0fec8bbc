"""The pictures of the report: galleries, those behind the matrix's cells, explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.album import Album
from taxon.evaluation.cells import NEW_PICTURES, cell_pictures
from taxon.evaluation.explain import Explained, Explainer
from taxon.evaluation.gallery import (
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


def pictures_view(
    table: PredictionTable,
    targets: Targets,
    label_space: LabelSpace,
    policy: DecisionPolicy,
    matrix: Sequence[int],
    thumbnails: Callable[[str], bytes | None],
    explainer: Explainer | None,
) -> PicturesView:
    """Choose the pictures, and make their thumbnails and explanations.

    Args:
        targets: int64 [N] or [N, C].
        matrix: positions of the classes that the confusion matrix shows; empty for multilabel.
        thumbnails: id -> JPEG bytes, or None.
    """
    case = (table, targets, label_space, policy)
    lists = [confident_mistakes(*case), label_errors(*case), doubtful_hits(*case)]
    album = Album(thumbnails)
    album.add(shown.id for shown in chain.from_iterable(lists))
    in_galleries = {shown.id for shown in chain.from_iterable(lists)}
    in_cells = _affordable(cell_pictures(*case, matrix), in_galleries) if matrix else []
    album.add(shown.id for shown in in_cells)
    explained = {} if explainer is None else explainer(_to_explain(lists))
    numbers: dict[str, int] = {}
    for shown in chain(*lists, in_cells):
        if album.get(shown.id) is not None:
            numbers.setdefault(shown.id, len(numbers))
    cells: defaultdict[str, list[tuple[str, float, int]]] = defaultdict(list)
    for shown in in_cells:
        if shown.id in numbers:
            cells[shown.cell].append((shown.id, round(shown.confidence, 4), numbers[shown.id]))
    notes = _notes([len(each) for each in lists], count_mistakes(*case), label_space)
    galleries = tuple(
        Gallery(
            key, title, notes[key], tuple(_card(each, album, numbers, explained) for each in shown)
        )
        for (key, title), shown in zip(TITLES.items(), lists, strict=True)
        if shown
    )
    return PicturesView(
        galleries=galleries,
        cells=dict(cells),
        images={
            numbers[shown.id]: album.get(shown.id) or ""
            for shown in in_cells
            if shown.id in numbers and shown.id not in in_galleries
        },
        method=explainer.method.name if explainer and explained else "",
        method_words=explainer.method.words if explainer and explained else "",
    )


TITLES = {
    "mistakes": "Most confident mistakes",
    "label-errors": "Labels that look wrong",
    "hits": "Least confident hits",
}


def _notes(counts: Sequence[int], mistakes: int, label_space: LabelSpace) -> dict[str, str]:
    multilabel = label_space.task == "multilabel"
    kind = "wrong tags" if multilabel else "wrong answers"
    right = "tags that were rightly named" if multilabel else "right answers"
    return {
        "mistakes": f"{counts[0]} of {mistakes:,} {kind}, the most confident first.",
        "label-errors": (
            f"{counts[1]} whose own label has at most 10 % probability, by cleanlab's label "
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


def _to_explain(lists: Sequence[Sequence[Shown]]) -> list[tuple[str, int]]:
    """The first of each gallery, then the second of each, ..., every answer once."""
    turns = (shown for shown in chain.from_iterable(zip_longest(*lists)) if shown is not None)
    return list(dict.fromkeys((shown.id, shown.column) for shown in turns))[:EXPLAINED]


def _card(
    shown: Shown,
    album: Album,
    numbers: dict[str, int],
    explained: dict[tuple[str, int], Explained],
) -> Card:
    return Card(
        shown=shown,
        number=numbers.get(shown.id),
        image=album.get(shown.id),
        explained=explained.get((shown.id, shown.column)),
    )

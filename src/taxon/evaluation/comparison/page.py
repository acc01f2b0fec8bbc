"""The page of a comparison: one HTML file, with everything in it, that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taxon.core.files import write_text
from taxon.evaluation.comparison.summary import Change, ChangedPicture, ClassComparison
from taxon.evaluation.comparison.summary import PairedMetrics as Metrics
from taxon.evaluation.comparison.wording import PairedRow, p_words, paired_row, paired_rows
from taxon.evaluation.confusion import short_names
from taxon.evaluation.page import environment, provenance_rows, size_words
from taxon.metrics.bootstrap import RESAMPLES

SHOWN = 60  # pictures of each kind
CLASSES = 200
IMAGE_BYTES = 3_000_000
_TITLES: dict[Change, tuple[str, str]] = {
    "broken": ("Broken", "A was right, B is wrong."),
    "fixed": ("Fixed", "A was wrong, B is right."),
    "different": ("Wrong in another way", "Both are wrong, with different answers."),
    "not_judged": (
        "Some tags unknown",
        "Nobody can say that everything is right; the answers differ in a tag that is known.",
    ),
}


@dataclass(frozen=True)
class Card:
    """A changed picture; `image` is a data URI of a small JPEG, or None."""

    picture: ChangedPicture
    image: str | None


@dataclass(frozen=True)
class Gallery:
    """The changed pictures of one kind, as many as are shown, of `count`."""

    kind: Change
    title: str
    meaning: str
    count: int
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Bar:
    """An interval on a common scale, in per cent of its width: 0 points are at 50."""

    left: float
    right: float
    middle: float
    look: str


@dataclass(frozen=True)
class ClassRow:
    """One class: its counts, and its recall and F1 in words."""

    name: str
    entry: ClassComparison
    recall: PairedRow
    f1: PairedRow


def write_page(
    path: Path,
    metrics: Metrics,
    *,
    taxonomy: bool,
    thumbnails: Callable[[str], bytes | None],
) -> None:
    """Write the page as one self-contained HTML file, below 5 MB, without any script.

    Args:
        path: the file to write; it appears whole or not at all.
        metrics: its `about` gives the title (`a` and `b`, each with `name`), the `part` and the
            provenance.
        taxonomy: whether class names are paths in a tree, of which the page shows the last part.
        thumbnails: id -> bytes of a small JPEG, or None; called for at most 60 pictures a kind.

    Raises:
        OutputError: the file cannot be written.
    """
    templates = environment()
    templates.filters["p_words"] = p_words
    rows = paired_rows(metrics)
    html = templates.get_template("compare.html").render(
        metrics=metrics,
        names=[_name(metrics, side) for side in ("a", "b")],
        subtitle=_subtitle(metrics),
        rows=rows,
        bars=_bars(rows),
        headline=paired_row(metrics.verdict.figure, metrics.headline),
        class_rows=_class_rows(metrics),
        classes_shown=CLASSES,
        short=_short(metrics, taxonomy),
        resamples=RESAMPLES,
        galleries=_galleries(metrics, thumbnails),
        provenance=provenance_rows(metrics.about),
    )
    write_text(path, html)


def _short(metrics: Metrics, taxonomy: bool) -> dict[str, str]:
    """Each class as the page shows it."""
    return dict(zip(metrics.classes, short_names(metrics.classes, taxonomy=taxonomy), strict=True))


def _name(metrics: Metrics, side: str) -> str:
    """The name of a run, its letter where none is known."""
    run = metrics.about.get(side)
    return str(run["name"]) if isinstance(run, dict) and "name" in run else side.upper()


def _subtitle(metrics: Metrics) -> str:
    parts = [str(metrics.about["part"])] if "part" in metrics.about else []
    several = metrics.task == "multilabel"
    return " · ".join([*parts, *size_words(metrics.n, len(metrics.classes), multilabel=several)])


def _bars(rows: list[PairedRow]) -> dict[str, Bar]:
    """Where the intervals of differences in points lie, on one scale that holds them all."""
    intervals = {
        row.name: row.paired.difference.ci95
        for row in rows
        if row.in_points and row.paired.difference.ci95 is not None
    }
    ends = [abs(end) for interval in intervals.values() if interval for end in interval]
    reach = max([*ends, 0.01]) * 1.05
    bars = {}
    for row in rows:
        interval, value = intervals.get(row.name), row.paired.difference.value
        if interval is not None and value is not None:
            low, high, middle = (50 + 50 * end / reach for end in (*interval, value))
            bars[row.name] = Bar(low, 100 - high, middle, row.paired.outcome)
    return bars


def _class_rows(metrics: Metrics) -> list[ClassRow]:
    """Those that changed most beyond chance first, losses before gains."""

    def order(item: tuple[str, ClassComparison]) -> tuple[float, int, int]:
        entry = item[1]
        corrected = 2.0 if entry.corrected is None else entry.corrected
        return corrected, entry.only_b - entry.only_a, -entry.only_a - entry.only_b

    return [
        ClassRow(name, entry, paired_row("recall", entry.recall), paired_row("F1", entry.f1))
        for name, entry in sorted(metrics.per_class.items(), key=order)[:CLASSES]
    ]


def _galleries(metrics: Metrics, thumbnails: Callable[[str], bytes | None]) -> tuple[Gallery, ...]:
    room = IMAGE_BYTES
    galleries = []
    for kind, (title, meaning) in _TITLES.items():
        pictures, cards = metrics.of(kind), []
        for picture in pictures[:SHOWN]:
            image = _data_uri(thumbnails(picture.id))
            if image is not None and len(image) > room:
                image = None
            room -= len(image or "")
            cards.append(Card(picture, image))
        if cards:
            galleries.append(Gallery(kind, title, meaning, len(pictures), tuple(cards)))
    return tuple(galleries)


def _data_uri(jpeg: bytes | None) -> str | None:
    if jpeg is None:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

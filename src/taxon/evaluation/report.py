"""The HTML report: one file, with everything in it, that works without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Template
from markupsafe import Markup

from taxon.bundle import ArtefactInfo
from taxon.core.files import write_text
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.album import Album
from taxon.evaluation.artefacts_view import artefacts_section
from taxon.evaluation.charts import FEW
from taxon.evaluation.confusion import confusion_view, short_names, shown_classes
from taxon.evaluation.curves_view import CurvesView, curves_view
from taxon.evaluation.decisions_view import scope_note, slices_view, weakest_sets
from taxon.evaluation.explain import Explained, Explainer, Method
from taxon.evaluation.figures import write_figures
from taxon.evaluation.page import environment, provenance_rows, size_words
from taxon.evaluation.pictures_view import (
    Chosen,
    PicturesView,
    choose_pictures,
    pictures_view,
)
from taxon.evaluation.report_charts import ReportCharts, report_charts
from taxon.evaluation.summary import ClassFigures, Metrics
from taxon.evaluation.wording import (
    all_rows,
    confused_pairs,
    findings,
    headline_rows,
    meaning_sentence,
)
from taxon.metrics.bootstrap import RESAMPLES

PAGE_BYTES = 5_000_000  # the whole page is smaller, so that it can be mailed and opened anywhere
IMAGE_BYTES = 2_800_000  # of it, at most
LEAST_FOR_IMAGES = 1_000_000
# How many classes a table, a list or a matrix shows, and a gallery pictures: the first number that
# leaves room for pictures. metrics.json has all.
SHOWN = (1000, 500, 250, 100, 50, 25, 10, 5, 2)
PAIRS = 10
NO_PICTURE = "data:,"
TOO_LONG = "the report is larger than 5 MB: names or notes of the data are very long"


@dataclass(frozen=True)
class DataFacts:
    """What is known of the data that the model was made of.

    Attributes:
        parts: pictures by part (`train`, `validation`, ...).
        groups: how many groups of pictures there are; None where no picture has one.
        notes: what the audit and the training said of the data, in plain sentences.
    """

    parts: Mapping[str, int]
    groups: int | None = None
    notes: tuple[str, ...] = ()


def write_report(
    path: Path,
    metrics: Metrics,
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
    policy: DecisionPolicy,
    *,
    history: Sequence[dict[str, Any]],
    thumbnails: Callable[[str], bytes | None],
    explainer: Explainer | None = None,
    data: DataFacts | None = None,
    artefacts: Sequence[ArtefactInfo] = (),
    figures: Path | None = None,
) -> tuple[str, ...]:
    """Write the report as one self-contained HTML file, below 5 MB, and its figures beside it.

    It loads nothing from anywhere, and its own security policy forbids it to. Where names are long,
    fewer classes and pictures are shown, and the page says so.

    Args:
        path: the file to write; it appears whole or not at all.
        metrics: of `compute_metrics`; its `about` gives the title (`model`, `part`) and the
            provenance block.
        table, targets, label_space, policy: what the metrics were computed from.
        history: one row an epoch (`stage`, `epoch`, `train_loss`, `validation_loss`,
            `macro_f1`, ...); validation keys may be missing or None. Empty leaves the curves out.
        thumbnails: id -> JPEG bytes of a small picture, or None; called from several threads,
            for at most 508 pictures, each once.
        explainer: explains at most 24 answers; None leaves explanations out.
        data: of the model's data; None leaves the block out.
        artefacts: those that the model has.
        figures: a folder for the charts as SVG and, with matplotlib, PNG; None writes none.

    Returns:
        plain sentences on what was left out.

    Raises:
        OutputError: a file cannot be written.
    """
    case = (table, targets, label_space, policy)
    chosen = choose_pictures(*case, shown_classes(metrics))
    # First, since it is what says by which method: it may have to fall back on another.
    explained = explainer(chosen.to_explain) if explainer is not None else {}
    curves = curves_view(metrics, *case)
    charts = report_charts(metrics, table, targets, label_space, history)
    contents = _contents(metrics, charts, label_space, policy)
    page = _Page(
        metrics=metrics,
        template=environment().get_template("report.html"),
        contents=contents
        | {
            "scope_note": scope_note(metrics, *case),
            "data": data,
            "artefacts": artefacts_section(artefacts),
        },
        pairs=tuple(confused_pairs(metrics, PAIRS)),
        chosen=chosen,
        curves=curves[0] if curves else None,
        method=explainer.method if explainer is not None else None,
        explained=explained,
    )
    most, room = page.room()
    write_text(path, page.html(most, page.album(most, room, thumbnails).get))
    notes = list(explainer.notes) if explainer is not None else []
    if room < 0:
        notes.append(TOO_LONG)
    if figures is not None:
        confusion = confusion_view(metrics, shown_classes(metrics), {})
        notes += write_figures(figures, charts.files(curves[1] if curves else {}), confusion)
    return tuple(notes)


@dataclass(frozen=True)
class _Page:
    """The report before it is decided how many classes and pictures it has room for.

    Attributes:
        contents: what the page says whatever it has room for.
        pairs: the most frequent confusions.
        method, explained: how answers were explained, and by (id, position of the class) what the
            model looked at.
    """

    metrics: Metrics
    template: Template
    contents: Mapping[str, Any]
    pairs: tuple[tuple[str, str, int], ...]
    chosen: Chosen
    curves: CurvesView | None
    method: Method | None
    explained: Mapping[tuple[str, int], Explained]

    def html(self, most: int, uri: Callable[[str], str | None]) -> str:
        """Render it with `most` classes, and at most as many pictures a gallery."""
        matrix = shown_classes(self.metrics, most)
        pictures = pictures_view(self.chosen.cut(most, matrix), uri, self.method, self.explained)
        curves = self.curves.cut(most) if self.curves is not None else None
        return self.template.render(
            **self.contents,
            classes=_class_rows(self.metrics, most),
            confusion=confusion_view(self.metrics, matrix, pictures.counts),
            pairs=self.pairs[:most],
            weakest_sets=weakest_sets(self.metrics)[:most],
            pictures=pictures,
            curves=curves,
            page_data=_page_data(pictures, curves.data if curves else {}),
        )

    def room(self) -> tuple[int, int]:
        """Return how many classes are shown, and how many bytes that leaves for pictures."""
        most, room = SHOWN[0], 0
        for most in SHOWN:
            room = PAGE_BYTES - 1 - len(self.html(most, lambda _: NO_PICTURE).encode())
            if room >= LEAST_FOR_IMAGES:
                break
        return most, room

    def album(self, most: int, room: int, thumbnails: Callable[[str], bytes | None]) -> Album:
        """Return the pictures that fit in: those of the galleries, then those of the matrix."""
        album = Album(thumbnails, min(room, IMAGE_BYTES))
        shown = self.chosen.cut(most, shown_classes(self.metrics, most))
        album.add(shown.in_galleries)
        album.add(each.id for each in shown.in_cells)
        return album


def _contents(
    metrics: Metrics, charts: ReportCharts, label_space: LabelSpace, policy: DecisionPolicy
) -> dict[str, Any]:
    """What the page says whatever it has room for."""
    short = short_names(metrics.classes, taxonomy=metrics.taxonomy is not None)
    return {
        "metrics": metrics,
        "title": str(metrics.about.get("model", "Image classifier")),
        "subtitle": _subtitle(metrics),
        "headline": headline_rows(metrics),
        "meaning": meaning_sentence(metrics),
        "findings": findings(metrics),
        "resamples": RESAMPLES,
        "figures": all_rows(metrics),
        "descriptions": label_space.descriptions,
        "short": dict(zip(metrics.classes, short, strict=True)),
        "reliability": charts.reliability,
        "calibrated": charts.calibrated,
        "few": FEW,
        "fitted_on": policy.fitted_on,
        "selective": charts.selective,
        "slices": slices_view(metrics),
        "training": charts.training,
        "provenance": provenance_rows(metrics.about),
    }


def _subtitle(metrics: Metrics) -> str:
    parts = [f"{metrics.about['part']} part"] if "part" in metrics.about else []
    several = metrics.task == "multilabel"
    return " · ".join([*parts, *size_words(metrics.n, len(metrics.classes), multilabel=several)])


def _class_rows(metrics: Metrics, most: int) -> dict[str, ClassFigures]:
    """The classes for the table: all, or `most` with the lowest F1, in class order."""
    if len(metrics.classes) <= most:
        return metrics.per_class

    def f1(name: str) -> float:
        value = metrics.per_class[name].f1.value
        return 2.0 if value is None else value

    weakest = set(sorted(metrics.classes, key=f1)[:most])
    return {name: entry for name, entry in metrics.per_class.items() if name in weakest}


def _page_data(pictures: PicturesView, curves: dict[str, dict[str, Any]]) -> Markup:
    """What the page's scripts read, as JSON that no markup can end."""
    content = {"cells": pictures.cells, "images": pictures.images, "curves": curves}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))

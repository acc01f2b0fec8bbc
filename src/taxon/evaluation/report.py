"""The HTML report: one file, with everything in it, that works without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from taxon.core.files import write_text
from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy
from taxon.evaluation.album import Album
from taxon.evaluation.charts import FEW
from taxon.evaluation.confusion import confusion_view, short_names, shown_classes
from taxon.evaluation.curves_view import curves_view
from taxon.evaluation.decisions_view import points, scope_note, slices_view, weakest_sets
from taxon.evaluation.explain import Explainer
from taxon.evaluation.figures import write_figures
from taxon.evaluation.pictures_view import PicturesView, choose_pictures, pictures_view
from taxon.evaluation.report_charts import ReportCharts, report_charts
from taxon.evaluation.summary import ClassFigures, Metrics
from taxon.evaluation.wording import (
    all_rows,
    confused_pairs,
    findings,
    headline_rows,
    meaning_sentence,
    percent,
    plain,
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
        figures: a folder for the charts as SVG and, with matplotlib, PNG; None writes none.

    Returns:
        plain sentences on what was left out.

    Raises:
        OutputError: a file cannot be written.
    """
    case = (table, targets, label_space, policy)
    chosen = choose_pictures(*case, shown_classes(metrics))
    explained = explainer(chosen.to_explain) if explainer is not None else {}
    method = explainer.method if explainer is not None else None
    notes = list(explainer.notes) if explainer is not None else []
    curves = curves_view(metrics, *case)
    charts = report_charts(metrics, table, targets, label_space, history)
    pairs = confused_pairs(metrics, PAIRS)
    template = _environment().get_template("report.html")
    contents = _contents(metrics, charts, label_space, policy) | {
        "scope_note": scope_note(metrics, *case),
        "data": data,
    }

    def page(most: int, uri: Callable[[str], str | None]) -> str:
        """The page with `most` classes, and at most as many pictures a gallery."""
        matrix = shown_classes(metrics, most)
        pictures = pictures_view(chosen.cut(most, matrix), uri, method, explained)
        shown = curves[0].cut(most) if curves else None
        return template.render(
            **contents,
            classes=_class_rows(metrics, most),
            confusion=confusion_view(metrics, matrix, pictures.counts),
            pairs=pairs[:most],
            weakest_sets=weakest_sets(metrics)[:most],
            pictures=pictures,
            curves=shown,
            page_data=_page_data(pictures, shown.data if shown else {}),
        )

    most, room = _room(lambda most: page(most, lambda _: NO_PICTURE))
    album = Album(thumbnails, min(room, IMAGE_BYTES))
    shown = chosen.cut(most, shown_classes(metrics, most))
    album.add(shown.in_galleries)
    album.add(each.id for each in shown.in_cells)
    write_text(path, page(most, album.get))
    if room < 0:
        notes.append(TOO_LONG)
    if figures is not None:
        confusion = confusion_view(metrics, shown_classes(metrics), {})
        notes += write_figures(figures, charts.files(curves[1] if curves else {}), confusion)
    return tuple(notes)


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
        "provenance": [(_label(key), _text(value)) for key, value in metrics.about.items()],
    }


def _room(outline: Callable[[int], str]) -> tuple[int, int]:
    """How many classes are shown, and how many bytes that leaves for pictures.

    Args:
        outline: the page with so many classes, without pictures.
    """
    most, room = SHOWN[0], 0
    for most in SHOWN:
        room = PAGE_BYTES - 1 - len(outline(most).encode())
        if room >= LEAST_FOR_IMAGES:
            break
    return most, room


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taxon.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, plain=plain, points=points, unbroken=_unbroken)
    return environment


def _subtitle(metrics: Metrics) -> str:
    parts = [f"{metrics.n:,} {'picture' if metrics.n == 1 else 'pictures'}"]
    parts.append(f"{len(metrics.classes)} classes")
    if "part" in metrics.about:
        parts.insert(0, f"{metrics.about['part']} part")
    if metrics.task == "multilabel":
        parts.append("several labels a picture")
    return " · ".join(parts)


def _unbroken(text: str) -> str:
    """Keep a number and its per cent sign on one line."""
    return text.replace(" %", "\u00a0%").replace(" points", "\u00a0points")


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


def _label(key: str) -> str:
    """Write a key of `about` for people: `left_out` -> `Left out`."""
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(value: Any) -> str:
    """Write a value of `about` for people: a string as it is, pairs as `key: value` lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)

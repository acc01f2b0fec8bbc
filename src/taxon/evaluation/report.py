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
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation.charts import reliability_diagram
from taxon.evaluation.confusion import confusion_view, short_names, shown_classes
from taxon.evaluation.curves_view import curves_view
from taxon.evaluation.decisions_view import abstention, points, slices_view, weakest_sets
from taxon.evaluation.explain import Explainer
from taxon.evaluation.figures import Chart, write_figures
from taxon.evaluation.pictures_view import PicturesView, pictures_view
from taxon.evaluation.summary import ClassFigures, Metrics
from taxon.evaluation.training_view import training_view
from taxon.evaluation.wording import (
    all_rows,
    confused_pairs,
    findings,
    headline_rows,
    meaning_sentence,
    percent,
    plain,
)
from taxon.metrics import reliability_bins

CLASS_ROWS = 1000  # of the table; metrics.json has all


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

    It loads nothing from anywhere, and its own security policy forbids it to.

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
    pictures = pictures_view(*case, shown_classes(metrics), thumbnails, explainer)
    curves = curves_view(metrics, *case)
    training = training_view(history)
    selective = abstention(metrics)
    reliability, calibrated = _reliability(metrics, table, targets, label_space)
    confusion = confusion_view(
        metrics, {key: len(entries) for key, entries in pictures.cells.items()}
    )
    html = (
        _environment()
        .get_template("report.html")
        .render(
            metrics=metrics,
            title=str(metrics.about.get("model", "Image classifier")),
            subtitle=_subtitle(metrics),
            headline=headline_rows(metrics),
            meaning=meaning_sentence(metrics),
            findings=findings(metrics),
            figures=all_rows(metrics),
            classes=_class_rows(metrics),
            descriptions=label_space.descriptions,
            short=dict(zip(metrics.classes, short_names(metrics.classes), strict=True)),
            confusion=confusion,
            pairs=confused_pairs(metrics, 10),
            pictures=pictures,
            curves=curves[0] if curves else None,
            reliability=reliability,
            calibrated=calibrated,
            fitted_on=policy.fitted_on,
            selective=selective,
            weakest_sets=weakest_sets(metrics),
            slices=slices_view(metrics),
            training=training,
            data=data,
            provenance=[(_label(key), _text(value)) for key, value in metrics.about.items()],
            page_data=_page_data(pictures, curves[0].data if curves else {}),
        )
    )
    write_text(path, html)
    notes = [explainer.note] if explainer is not None and explainer.note else []
    if figures is not None:
        charts = {"reliability": Chart(reliability), **(curves[1] if curves else {})}
        if selective:
            charts["risk-coverage"] = Chart(selective.chart)
        for title, drawing, series in training.curves if training else ():
            legend = tuple((line.style, line.name) for line in series)
            charts[f"training-{title.split()[0].lower()}"] = Chart(drawing, legend)
        notes += write_figures(figures, charts, confusion)
    return tuple(notes)


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


def _class_rows(metrics: Metrics) -> dict[str, ClassFigures]:
    """The classes for the table: all, or the 1,000 with the lowest F1, in class order."""
    if len(metrics.classes) <= CLASS_ROWS:
        return metrics.per_class

    def f1(name: str) -> float:
        value = metrics.per_class[name].f1.value
        return 2.0 if value is None else value

    weakest = set(sorted(metrics.classes, key=f1)[:CLASS_ROWS])
    return {name: entry for name, entry in metrics.per_class.items() if name in weakest}


def _reliability(
    metrics: Metrics,
    table: PredictionTable,
    targets: npt.NDArray[np.int64],
    label_space: LabelSpace,
) -> tuple[Markup, bool]:
    """The diagram, and whether it shows the time before calibration too."""
    bins = reliability_bins(targets, table.probabilities)
    plain_policy = DecisionPolicy.default(label_space)
    uncalibrated = calibrate(table.logits, plain_policy, label_space.task)
    before = None
    if not np.allclose(uncalibrated, table.probabilities, atol=1e-3):
        before = reliability_bins(targets, uncalibrated)
    words = ("confidence", "share that is right")
    if metrics.task == "multilabel":
        words = ("probability", "share that has the class")
    drawing = reliability_diagram(bins, x_label=words[0], y_label=words[1], before=before)
    return drawing, before is not None


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

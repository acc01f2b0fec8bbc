"""The HTML report: one file, with everything in it, that works without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from taxon.evaluation.charts import Series, history_values, reliability_diagram, training_curve
from taxon.evaluation.confusion import confusion_view, short_names
from taxon.evaluation.mistakes import confident_mistakes
from taxon.evaluation.summary import Metrics
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
) -> None:
    """Write the report as one self-contained HTML file, below 5 MB.

    It loads nothing from anywhere, and its own security policy forbids it to.

    Args:
        path: the file to write; it appears whole or not at all.
        metrics: of `compute_metrics`; its `about` gives the title (`model`, `part`) and the
            provenance block.
        table, targets, label_space, policy: what the metrics were computed from.
        history: one row an epoch (`stage`, `epoch`, `train_loss`, `validation_loss`,
            `macro_f1`, ...); validation keys may be missing or None. Empty leaves the curves out.
        thumbnails: id -> JPEG bytes of a small picture, or None; called for at most 60 mistakes.

    Raises:
        OutputError: the file cannot be written.
    """
    mistakes = confident_mistakes(table, targets, metrics, label_space, policy, thumbnails)
    environment = Environment(
        loader=PackageLoader("taxon.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, plain=plain, unbroken=_unbroken)
    html = environment.get_template("report.html").render(
        metrics=metrics,
        title=str(metrics.about.get("model", "Image classifier")),
        subtitle=_subtitle(metrics),
        headline=headline_rows(metrics),
        meaning=meaning_sentence(metrics),
        findings=findings(metrics),
        figures=all_rows(metrics),
        descriptions=label_space.descriptions,
        short=dict(zip(metrics.classes, short_names(metrics.classes), strict=True)),
        confusion=confusion_view(metrics, [mistake.cell for mistake in mistakes]),
        pairs=confused_pairs(metrics, 10),
        mistakes=mistakes,
        wrong_in_all=_wrong_in_all(metrics),
        reliability=_reliability(metrics, table, targets),
        curves=_curves(history),
        stages=_stages(history),
        kept=_kept(history),
        provenance=[(_label(key), _text(value)) for key, value in metrics.about.items()],
    )
    write_text(path, html)


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
    return text.replace(" %", "\u00a0%")


def _wrong_in_all(metrics: Metrics) -> int | None:
    """Count the wrong answers; None for multilabel, where metrics.json does not hold it."""
    if metrics.confusion is None:
        return None
    return metrics.n - sum(row[position] for position, row in enumerate(metrics.confusion))


def _reliability(
    metrics: Metrics, table: PredictionTable, targets: npt.NDArray[np.int64]
) -> Markup:
    bins = reliability_bins(targets, table.probabilities)
    if metrics.task == "multilabel":
        return reliability_diagram(bins, x_label="probability", y_label="share that has the class")
    return reliability_diagram(bins, x_label="confidence", y_label="share that is right")


def _curves(history: Sequence[dict[str, Any]]) -> list[tuple[str, Markup, list[Series]]]:
    """Return (title, drawing, series) of the losses and the scores, those that have values."""
    borders = [start for start, *_ in _stages(history)[1:]]
    kept = _kept(history)
    losses = [
        Series("training", "train", history_values(history, "train_loss")),
        Series("validation", "validation", history_values(history, "validation_loss")),
    ]
    scores = [
        Series("top-1", "second", history_values(history, "top1")),
        Series("mAP", "second", history_values(history, "mAP")),
        Series("macro-F1", "validation", history_values(history, "macro_f1")),
    ]
    drawn = []
    for title, series in (("Loss", losses), ("Score on validation", scores)):
        present = [line for line in series if any(value is not None for value in line.values)]
        if present:
            share = series is scores
            drawing = training_curve(f"{title} by epoch", present, borders, share=share, kept=kept)
            drawn.append((title, drawing, present))
    return drawn


def _kept(history: Sequence[dict[str, Any]]) -> int | None:
    """The position of the epoch with the best macro-F1, the first of equals; None without one."""
    scores = history_values(history, "macro_f1")
    known = [place for place, score in enumerate(scores) if score is not None]
    return max(known, key=lambda place: scores[place] or 0.0) if known else None


def _stages(history: Sequence[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Return (first position, last position, name) of each stage, positions from 0."""
    stages: list[tuple[int, int, str]] = []
    for position, row in enumerate(history):
        name = str(row.get("stage", "training"))
        if stages and stages[-1][2] == name:
            stages[-1] = (stages[-1][0], position, name)
        else:
            stages.append((position, position, name))
    return stages


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

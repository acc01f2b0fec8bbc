"""What is written and was measured of a model: its card and the figures of its test part."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from taxon.bundle.layout import CARD_FILE, METRICS_FILE
from taxon.bundle.read import read_model
from taxon.core.errors import BundleError

_log = logging.getLogger("taxon.serving")
# It is held in memory as long as the model is served.
_CARD_BYTES = 1024 * 1024
_METRICS_BYTES = 32 * 1024 * 1024

Unit = Literal["share", "number"]


class CardFigure(BaseModel):
    """One figure over all pictures, and what it means in a line.

    A `share` is 0 to 1, a `number` has no such range; `ci95` is its 95 % interval.
    """

    name: str
    unit: Unit
    value: float
    ci95: tuple[float, float] | None
    meaning: str


class ClassFigures(BaseModel):
    """One class: its pictures in the test part, and figures from 0 to 1 where they are defined."""

    pictures: int
    precision: float | None
    recall: float | None
    f1: float | None


class Card(BaseModel):
    """A model's card in Markdown, and what was measured on the `pictures` of its test part.

    `figures` has the most telling first, `classes` those of each class; both are empty where the
    model was not measured.
    """

    text: str | None
    pictures: int | None = None
    figures: tuple[CardFigure, ...] = ()
    classes: dict[str, ClassFigures] = {}


class _Figure(BaseModel):
    value: float | None = None
    ci95: tuple[float, float] | None = None


class _Averaged(BaseModel):
    macro: _Figure = _Figure()


class _Calibration(BaseModel):
    ece: _Figure = _Figure()


class _ClassEntry(BaseModel):
    precision: _Figure = _Figure()
    recall: _Figure = _Figure()
    f1: _Figure = _Figure()
    support: int = 0


class _About(BaseModel):
    fingerprint: str | None = None


class _Metrics(BaseModel):
    """Of metrics.json what is shown; everything else in it is passed over."""

    task: str
    n: int
    top1: _Figure = _Figure()
    top5: _Figure = _Figure()
    balanced_accuracy: _Figure = _Figure()
    macro_f1: _Figure = _Figure()
    micro_f1: _Figure = _Figure()
    log_loss: _Figure = _Figure()
    coverage: _Figure = _Figure()
    exact_match: _Figure = _Figure()
    auc_roc: _Averaged = _Averaged()
    average_precision: _Averaged = _Averaged()
    calibration: _Calibration = _Calibration()
    per_class: dict[str, _ClassEntry] = {}
    about: _About = _About()


def read_card(folder: Path, fingerprint: str) -> Card | None:
    """Read the card and the figures of a model folder; None where it has neither.

    What cannot be read is left out, and the log says why: a model serves without it.

    Args:
        fingerprint: of the model; figures of another one are left out.
    """
    text = _text(folder / CARD_FILE)
    metrics = _metrics(folder / METRICS_FILE, fingerprint)
    if metrics is None:
        return None if text is None else Card(text=text)
    return Card(
        text=text,
        pictures=metrics.n,
        figures=tuple(_figures(metrics)),
        classes={
            name: ClassFigures(
                pictures=entry.support,
                precision=entry.precision.value,
                recall=entry.recall.value,
                f1=entry.f1.value,
            )
            for name, entry in metrics.per_class.items()
        },
    )


def _text(file: Path) -> str | None:
    if not _is_small(file, _CARD_BYTES):
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("no model card is shown: cannot read %s: %s", file, error)
        return None


def _metrics(file: Path, fingerprint: str) -> _Metrics | None:
    if not _is_small(file, _METRICS_BYTES):
        return None
    try:
        metrics = read_model(file, _Metrics)
    except BundleError as error:
        _log.warning("no figures are shown: %s", error)
        return None
    if metrics.about.fingerprint not in (None, fingerprint):
        _log.warning("no figures are shown: those in %s are of another state of the model", file)
        return None
    return metrics


def _is_small(file: Path, limit: int) -> bool:
    if not file.is_file():
        return False
    size = file.stat().st_size
    if size > limit:
        _log.warning("%s is not shown: it has %d bytes, at most %d are", file, size, limit)
    return size <= limit


def _figures(metrics: _Metrics) -> Iterator[CardFigure]:
    """Those that the data define; which ones lead depends on the task."""
    macro_f1 = ("Macro-F1", metrics.macro_f1, "mean F1; every class counts the same")
    if metrics.task == "multilabel":
        precision = metrics.average_precision.macro
        rows = [
            macro_f1,
            ("mAP", precision, "mean average precision over the classes"),
            ("Micro-F1", metrics.micro_f1, "F1 over all decisions together"),
            ("Exact match", metrics.exact_match, "pictures with every tag right"),
        ]
    else:
        rows = [
            ("Top-1", metrics.top1, "pictures whose answer is right"),
            macro_f1,
            ("Balanced accuracy", metrics.balanced_accuracy, "mean recall over the classes"),
            ("Top-5", metrics.top5, "the true class is among the five most probable"),
        ]
    rows += [
        ("AUC-ROC", metrics.auc_roc.macro, "how well each class is ranked; 50 % is guessing"),
        ("Coverage", metrics.coverage, "pictures that are answered: neither unsure nor flagged"),
        ("ECE", metrics.calibration.ece, "mean gap between confidence and accuracy; 0 is best"),
    ]
    for name, figure, meaning in rows:
        if figure.value is not None:
            yield _figure(name, "share", figure.value, figure.ci95, meaning)
    loss = metrics.log_loss
    if loss.value is not None:
        meaning = "penalises confident mistakes; 0 is perfect"
        yield _figure("Log loss", "number", loss.value, loss.ci95, meaning)


def _figure(
    name: str, unit: Unit, value: float, ci95: tuple[float, float] | None, meaning: str
) -> CardFigure:
    return CardFigure(name=name, unit=unit, value=value, ci95=ci95, meaning=meaning)

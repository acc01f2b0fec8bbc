"""Write the model card of a model folder from what lies in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from taxon.api.pictures import count_groups
from taxon.api.reading import AUDIT_MARK
from taxon.bundle import Bundle
from taxon.bundle.card import (
    CardFacts,
    ClassRow,
    DataFacts,
    FigureRow,
    IndexedFigure,
    MeasuredFacts,
    PartFacts,
    SlicedFacts,
    SliceRow,
    is_refreshable,
    model_card,
)
from taxon.bundle.layout import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, METRICS_FILE
from taxon.core.files import write_text
from taxon.data import Manifest, read_manifest
from taxon.data.manifest import SPLITS

if TYPE_CHECKING:
    from taxon.evaluation import Metrics
    from taxon.evaluation.summary import SliceFigures
    from taxon.metrics import Figure

LEFT_ALONE = (
    f"{CARD_FILE} was not refreshed: it is not a card of taxon any more (its marks are gone, or "
    "the block at its top cannot be read); move it away for a new one"
)


def write_card(bundle: Bundle) -> tuple[str, ...]:
    """Write README.md, the model card, into a sealed model folder; nothing hashed is touched.

    Figures are those of metrics.json where they are of the run's own test part and of the model
    as it is now (its fingerprint), else the card says how to get them. What people wrote between
    the card's marks and into its block at the top is kept; a card without marks is left alone.

    Returns:
        Notes for the user: that the card was left alone, and why.

    Raises:
        DataError: the manifest is absent or damaged.
        OutputError: the card cannot be written.
    """
    file = bundle.path / CARD_FILE
    previous = file.read_text("utf-8-sig", errors="replace") if file.is_file() else None
    if previous is not None and not is_refreshable(previous):
        return (LEFT_ALONE,)
    facts = CardFacts(
        info=bundle.info,
        spec=bundle.spec,
        library=_library(bundle.path),
        data=_data(bundle),
        measured=_measured(bundle),
    )
    write_text(file, model_card(facts, previous))
    return ()


def _library(folder: Path) -> str:
    config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_bytes())
    return str(config.get("library_name", "timm"))


def _data(bundle: Bundle) -> DataFacts:
    manifest = read_manifest(bundle.path / MANIFEST_FILE)
    audited = [
        note.removeprefix(AUDIT_MARK)
        for note in bundle.info.provenance.notes
        if note.startswith(AUDIT_MARK)
    ]
    counts = manifest.split_counts()
    return DataFacts(
        name=manifest.root.name or str(manifest.root),
        parts=tuple(_part(manifest.part(name), name) for name in SPLITS if name in counts),
        left_out=len(manifest.skipped),
        unknown=sum(len(record.unknown) for record in manifest.records),
        notes=manifest.notes,
        warnings=tuple(note for note in audited if not note.startswith("info")),
    )


def _part(manifest: Manifest, name: str) -> PartFacts:
    return PartFacts(
        name=name,
        pictures=len(manifest),
        groups=count_groups(manifest.records),
        per_class=tuple(manifest.counts().values()),
    )


def _measured(bundle: Bundle) -> MeasuredFacts | None:
    """The figures of metrics.json, None where they are not the card's."""
    from taxon.evaluation import Metrics
    from taxon.evaluation.terminal import weak_slices
    from taxon.evaluation.wording import all_rows, meaning_sentence

    try:
        metrics = Metrics.model_validate_json((bundle.path / METRICS_FILE).read_bytes())
    except (OSError, ValidationError):  # none yet, or by another version: to be measured anew
        return None
    if not is_of_own_test(metrics, bundle):
        return None
    return MeasuredFacts(
        pictures=metrics.n,
        sentence=meaning_sentence(metrics),
        rows=tuple(
            FigureRow(row.name, row.value, row.interval or row.figure.reason or "")
            for row in all_rows(metrics)
        ),
        classes=tuple(
            ClassRow(
                name,
                entry.support,
                _in_words(entry.precision),
                _in_words(entry.recall),
                _in_words(entry.specificity),
                _in_words(entry.f1),
            )
            for name, entry in metrics.per_class.items()
        ),
        sliced=SlicedFacts(
            judged=len(metrics.slices),
            weak=tuple(_slice(entry) for entry in weak_slices(metrics)),
            notes=tuple(metrics.about.get("slices", ())),
        ),
        indexed=tuple(entry for entry in _indexed(metrics) if entry.figure.value is not None),
        left_out=tuple(metrics.about.get("left_out", ())),
    )


def is_of_own_test(metrics: Metrics, bundle: Bundle) -> bool:
    """Whether figures are of the run's own test part and of the model as it is now."""
    about = metrics.about
    return (
        about.get("fingerprint") == bundle.info.fingerprint
        and about.get("part") == "test"
        and "data_path" not in about
    )


def _indexed(metrics: Metrics) -> tuple[IndexedFigure, ...]:
    """The figures that leaderboards compare, under the Hub's names of metrics."""
    macro_f1 = IndexedFigure("f1", "Macro-F1", metrics.macro_f1)
    auc = IndexedFigure("roc_auc", "AUC-ROC, macro", metrics.auc_roc.macro)
    if metrics.task == "multilabel":
        average = metrics.average_precision.macro
        return (
            macro_f1,
            IndexedFigure("f1", "Micro-F1", metrics.micro_f1),
            IndexedFigure("mean_average_precision", "mAP", average),
            auc,
        )
    return (
        IndexedFigure("accuracy", "Top-1", metrics.top1),
        macro_f1,
        IndexedFigure("balanced_accuracy", "Balanced accuracy", metrics.balanced_accuracy),
        auc,
    )


def _slice(entry: SliceFigures) -> SliceRow:
    from taxon.evaluation.decisions_view import NAMES

    name, figure = next(iter(entry.figures.items()))
    return SliceRow(
        column=entry.column,
        value=entry.value,
        pictures=entry.n,
        figure=f"{NAMES[name]} {_in_words(figure)}",
        difference=_below(entry.difference),
    )


def _below(difference: Figure) -> str:
    """`27.2 points below all others (51.8 to 7.5)`, of a weak slice.

    Points, because per cent of a share would read as relative.
    """
    assert difference.value is not None
    words = f"{-100 * difference.value:.1f} points below all others"
    if difference.ci95 is None:
        return words
    low, high = (f"{-100 * end:.1f}" for end in difference.ci95)
    return f"{words} ({low} to {high})"


def _in_words(figure: Figure) -> str:
    """`83.1 % (78.2 to 87.4)`, or why there is no figure."""
    from taxon.evaluation.wording import percent

    if figure.value is None:
        return figure.reason or "–"
    if figure.ci95 is None:
        return percent(figure.value)
    low, high = (f"{100 * end:.1f}" for end in figure.ci95)
    return f"{percent(figure.value)} ({low} to {high})"

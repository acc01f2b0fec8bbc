"""The card's section of figures."""

from __future__ import annotations

import shlex

from taxon.bundle.card.facts import MeasuredFacts
from taxon.bundle.card.tables import SHOWN_CLASSES, code, prose, table
from taxon.core.labels import Task
from taxon.core.text import counted


def result_lines(measured: MeasuredFacts | None, name: str, task: Task) -> list[str]:
    """Return the lines of Markdown, or how to get the figures.

    Args:
        name: of the model folder.
    """
    if measured is None:
        return [
            f"Not measured yet. {code(f'taxon evaluate {shlex.quote(name)}')} scores the model on "
            "its own test part, which no step of the training has seen, and writes the figures "
            "here."
        ]
    return [
        f"On the {counted(measured.pictures, 'picture', 'pictures')} of the test part, which no "
        f"step of the training has seen. {measured.sentence} Intervals are 95 %; "
        "`metrics.json` and `report/report.html` hold more.",
        *(f"\nNot scored: {prose(note)}." for note in measured.left_out),
        "",
        *table(
            ["Figure", "Value", "95 % interval"],
            [[row.name, row.value, prose(row.interval) or "–"] for row in measured.rows],
        ),
        "",
        *_classes(measured, task),
    ]


def _classes(measured: MeasuredFacts, task: Task) -> list[str]:
    if len(measured.classes) > SHOWN_CLASSES:
        return [f"The figures of each of the {len(measured.classes)} classes are in the report."]
    rows = [
        [
            code(row.name),
            f"{row.pictures:,}",
            *map(prose, (row.precision, row.recall, row.specificity, row.f1)),
        ]
        for row in measured.classes
    ]
    kind = "Tag" if task == "multilabel" else "Class"
    return table([kind, "Pictures", "Precision", "Recall", "Specificity", "F1"], rows)

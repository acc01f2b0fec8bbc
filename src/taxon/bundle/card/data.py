"""The card's section on the pictures: how many, of what, and how they were divided."""

from __future__ import annotations

from taxon.bundle.card.facts import DataFacts
from taxon.bundle.card.tables import SHOWN_CLASSES, code, prose, table
from taxon.core.labels import LabelSpace
from taxon.core.text import agree, counted


def data_lines(data: DataFacts, label_space: LabelSpace, fingerprint: str) -> list[str]:
    """Return the lines of Markdown.

    Args:
        fingerprint: of the manifest.
    """
    total = sum(part.pictures for part in data.parts)
    left_out = (
        f" {counted(data.left_out, 'picture or row', 'pictures or rows')} could not be used."
        if data.left_out
        else ""
    )
    unknown = (
        f" {counted(data.unknown, 'annotation is', 'annotations are')} unknown, and "
        f"{agree(data.unknown, 'counts', 'count')} neither as yes nor as no."
        if data.unknown
        else ""
    )
    return [
        f"{counted(total, 'picture', 'pictures')} of {code(data.name)}.{left_out}{unknown} "
        f"`manifest.parquet` names each of them with its sha256 and its part; its fingerprint is "
        f"`{fingerprint}`.",
        "",
        *_parts(data),
        "",
        *_classes(data, label_space),
        "",
        "How the data were read and divided:",
        "",
        *(f"- {prose(note)}" for note in data.notes),
    ]


def _parts(data: DataFacts) -> list[str]:
    grouped = any(part.groups is not None for part in data.parts)
    header = ["Part", "Pictures", *(["Groups"] if grouped else [])]
    rows = [
        [part.name, f"{part.pictures:,}", *([f"{part.groups or 0:,}"] if grouped else [])]
        for part in data.parts
    ]
    return table(header, rows)


def _classes(data: DataFacts, label_space: LabelSpace) -> list[str]:
    """Pictures of every class in every part; of many classes the smallest and the largest."""
    names = label_space.names
    totals = [sum(counts) for counts in zip(*(part.per_class for part in data.parts), strict=True)]
    if len(names) > SHOWN_CLASSES:
        ranked = sorted(zip(totals, names, strict=True))
        (least, smallest), (most, largest) = ranked[0], ranked[-1]
        return [
            f"{len(names)} classes, from {code(smallest)} with "
            f"{counted(least, 'picture', 'pictures')} to {code(largest)} with {most:,}; "
            "`labels.json` names them all."
        ]
    rows = [
        [code(name), *(f"{part.per_class[position]:,}" for part in data.parts)]
        for position, name in enumerate(names)
    ]
    return table(["Class", *(part.name for part in data.parts)], rows)

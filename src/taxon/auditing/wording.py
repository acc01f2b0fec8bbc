"""Words that several checks need."""

from __future__ import annotations

from collections.abc import Sequence

from taxon.core.text import counted
from taxon.data import Record


def pictures(count: int) -> str:
    """`1 picture`, `1,234 pictures`."""
    return counted(count, "picture", "pictures")


def percent(share: float) -> str:
    """A fraction as per cent: `0.4 %`, `61.7 %`."""
    return f"{100 * share:.1f} %"


def labels_of(record: Record) -> str:
    """The picture's labels, those that are unknown with a `?` before them, or `no label`."""
    return ", ".join(record.marked) or "no label"


def kilobytes(size: float) -> str:
    """Bytes for people: `840 B`, `12 KB`, `3.4 MB`."""
    if size < 1000:
        return f"{size:.0f} B"
    return f"{size / 1000:.0f} KB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def identifiers(records: Sequence[Record]) -> tuple[str, ...]:
    """The ids of records, in their order."""
    return tuple(record.id for record in records)

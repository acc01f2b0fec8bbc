"""Words and names that the sources share."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

Kind = Literal["flat", "taxonomy", "tags"]
TAG_SEPARATOR = "|"  # between the tags in a cell
# Characters that move the cursor or end a line, wherever a name of them is shown.
_CONTROL = ("Cc", "Zl", "Zp")


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, quoted, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more


def counted(count: int, one: str, many: str) -> str:
    """`1 row`, `3 rows`."""
    return f"{count} {one if count == 1 else many}"


def clean(label: str) -> str:
    """Return a label without space around it, accents in one form (Unicode NFC)."""
    return unicodedata.normalize("NFC", label.strip())


def has_control(text: str) -> bool:
    """Whether a text holds a line end or another character that controls a terminal."""
    return any(unicodedata.category(character) in _CONTROL for character in text)


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """Return a file's name so that it can be written: bytes that are no UTF-8 as `\\xff`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "backslashreplace").decode("utf-8")

"""Words for people: numbers with the right noun, lists cut short, names on one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# Characters that end a line or move the cursor.
_CONTROL = ("Cc", "Zl", "Zp")
_DIGITS = 18  # Python does not read numbers of thousands of digits


def is_control(character: str) -> bool:
    """Whether a character ends a line or controls a terminal."""
    return unicodedata.category(character) in _CONTROL


def one_line(text: str) -> str:
    """Return a text with its line ends and control characters written out, `\\n` and `\\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if is_control(character) else character
        for character in text
    )


def agree(count: int, one: str, many: str) -> str:
    """The word that goes with a number of things: `is` or `are`."""
    return one if count == 1 else many


def counted(count: int, one: str, many: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{count:,} {agree(count, one, many)}"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, quoted, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more


def whole_number(value: str) -> int | None:
    """Return a header's number; None where it is none, or longer than any length or time is."""
    return int(value) if value.isdecimal() and len(value) <= _DIGITS else None

"""Text for a terminal: file names may hold anything."""

from __future__ import annotations

import unicodedata

# Characters that end a line or move the cursor.
_CONTROL = ("Cc", "Zl", "Zp")


def is_control(character: str) -> bool:
    """Whether a character ends a line or controls a terminal."""
    return unicodedata.category(character) in _CONTROL


def one_line(text: str) -> str:
    """Return a text with its line ends and control characters written out, `\\n` and `\\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if is_control(character) else character
        for character in text
    )

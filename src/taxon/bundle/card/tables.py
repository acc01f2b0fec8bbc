"""Tables, names and other people's words in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from taxon.core.text import one_line

SHOWN_CLASSES = 50
# What means something to Markdown within a line. Of these, entities are safe everywhere: a bar
# ends a table's cell, and a backtick begins code, whatever stands before them.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", "|": "&#124;", "`": "&#96;"}
    | {character: f"\\{character}" for character in "\\*_[]~$"}
)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the first column is text, the others are numbers.

    Cells are Markdown: names go through `code`, and words that quote any through `prose`.
    """
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def prose(text: str) -> str:
    """A text that quotes people's names, on one line, such that it reads as it stands.

    No character of it means anything to Markdown or HTML within a line or a table's cell.
    """
    return one_line(text).translate(_ESCAPES)


def code(name: str) -> str:
    """A name as code, on one line, such that no character of it means anything to Markdown.

    A bar would end a table's cell even within code, and is written as its entity.
    """
    text = one_line(name)
    return f"<code>{prose(name)}</code>" if "|" in text or "`" in text else f"`{text}`"

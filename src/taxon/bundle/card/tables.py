"""Tables and names in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from taxon.core.text import one_line

SHOWN_CLASSES = 50


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def code(name: str) -> str:
    """A name as code, on one line, such that no character of it means anything to Markdown.

    A bar would end a table's cell even within code, and is written as its entity.
    """
    text = one_line(name)
    if "|" in text or "`" in text:
        for character, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
            text = text.replace(character, entity)
        return f"<code>{text}</code>"
    return f"`{text}`"

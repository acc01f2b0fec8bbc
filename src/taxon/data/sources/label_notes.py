"""Notes on the labels of a listing: what is odd about them, in plain sentences."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence, Set

from taxon.data.sources.words import TAG_SEPARATOR, Kind, counted, some

_SEPARATORS = re.compile(r"[,;|]")
_LIST = re.compile(r"""[\[({]\s*(['"]).*\1\s*,?\s*[\])}]""")  # a list of Python or JSON, as text
_NOTHING = {"nan", "n/a", "#n/a", "null"}  # what other programs write for an empty cell


def label_notes(labels: Sequence[tuple[str, ...]], kind: Kind, declared: Set[str]) -> list[str]:
    """Return the notes.

    Args:
        labels: of each picture.
        declared: class names that the source knows; those without a picture are noted.
    """
    names = sorted({name for row in labels for name in row})
    notes = []
    if unused := sorted(declared - set(names)):
        notes.append(f"no picture has {some(unused)}: no class is made of it")
    notes += _alike(names)
    if nothing := [name for name in names if name.casefold() in _NOTHING]:
        what = "tag" if kind == "tags" else "class"
        notes.append(
            f"{some(nothing)} is taken for a {what}; where it stands for none, empty the cell"
        )
    if kind != "taxonomy":
        notes += _several(names, kind)
    without = sum(not row for row in labels)
    if kind == "tags" and 0 < without < len(labels):
        count = "counts as an example" if without == 1 else "count as examples"
        notes.append(
            f"{counted(without, 'picture has', 'pictures have')} no tag and {count} of none"
        )
    return notes


def _alike(names: Sequence[str]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[name.casefold()].append(name)
    return [
        f"{' and '.join(repr(name) for name in same)} differ by upper and lower case only and "
        "remain classes of their own"
        for same in alike.values()
        if len(same) > 1
    ]


def _several(names: Sequence[str], kind: Kind) -> list[str]:
    """Note labels that look like several tags in one cell."""
    parts = {name: [part.strip() for part in _SEPARATORS.split(name)] for name in names}
    joined = {name: words for name, words in parts.items() if len(words) > 1 and all(words)}
    # A word is a label where it stands alone too, or beside several others.
    count = Counter(word for words in parts.values() for word in set(words))
    words = [word for found in joined.values() for word in found]
    listed = [name for name in names if _LIST.fullmatch(name)]
    if 2 * sum(count[word] > 1 for word in words) > len(words):
        listed += joined
    if not listed:
        return []
    column = "" if kind == "tags" else " in a column named 'labels' or 'tags'"
    return [
        f"{some(list(dict.fromkeys(listed)), 2)} looks like several tags in one; separate them by "
        f"'{TAG_SEPARATOR}'{column}"
    ]

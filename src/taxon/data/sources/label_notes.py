"""Notes on the labels of a listing: what is odd about them, in plain sentences."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence, Set

from taxon.core.labels import SEPARATOR
from taxon.core.text import agree, counted, some
from taxon.data.sources.words import TAG_SEPARATOR, Kind, spelling

_SEPARATORS = re.compile(r"[,;|]")
_LIST = re.compile(r"""[\[({]\s*(['"]).*\1\s*,?\s*[\])}]""")  # a list of Python or JSON, as text
# What people and programs write where there is no label; a class may be called so all the same.
_NOTHING = {"nan", "<na>", "n/a", "#n/a", "na", "n.a.", "null", "nil", "none", "-", "--", "?"}
_GROUPS_NAMED = 3


def label_notes(
    labels: Sequence[tuple[str, ...]], kind: Kind, declared: Set[str], *, untagged: int = 0
) -> list[str]:
    """Return the notes.

    Args:
        labels: of each picture.
        declared: class names that the source knows; those without a picture are noted.
        untagged: pictures of which it is known that they have no tag.
    """
    names = sorted({name for row in labels for name in row})
    what = ("tag", "tags") if kind == "tags" else ("class", "classes")
    notes = []
    if unused := sorted(declared - set(names)):
        of_it = agree(len(unused), "it", "them")
        notes.append(f"no picture has {some(unused)}: no {what[0]} is made of {of_it}")
    notes += _alike(names, what[1])
    notes += _missing(names, kind)
    if kind != "taxonomy":
        notes += _several(names, kind)
    if kind == "tags" and 0 < untagged < len(labels):
        count = "counts as an example" if untagged == 1 else "count as examples"
        notes.append(
            f"{counted(untagged, 'picture has', 'pictures have')} no tag and {count} of none"
        )
    return notes


def _alike(names: Sequence[str], what: str) -> list[str]:
    """Note, once for all, the names that differ by case and by what stands between words only."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[spelling(name)].append(name)
    same = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if not same:
        return []
    more = f"; and {len(same) - _GROUPS_NAMED} more" if len(same) > _GROUPS_NAMED else ""
    return [
        f"{what} that differ by case, spaces or hyphens only remain {what} of their own: "
        f"{'; '.join(same[:_GROUPS_NAMED])}{more}"
    ]


def _missing(names: Sequence[str], kind: Kind) -> list[str]:
    """Note names that may stand for a label that is missing."""
    parts = {name: name.casefold().split(SEPARATOR) for name in names}
    if kind != "taxonomy":
        parts = {name: [name.casefold()] for name in names}
    found = [name for name in names if _NOTHING.intersection(parts[name])]
    if not found:
        return []
    are = agree(len(found), "is taken for a", "are taken for")
    what, remedy = agree(len(found), "class", "classes"), "leave the pictures out"
    if kind == "tags":
        what, remedy = agree(len(found), "tag", "tags"), "take it out"
    return [f"{some(found)} {are} {what}; where the word stands for no label, {remedy}"]


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
    names = list(dict.fromkeys(listed))
    column = "" if kind == "tags" else " in a column named 'labels' or 'tags'"
    return [
        f"{some(names, 2)} {agree(len(names), 'looks', 'look')} like several tags in one; "
        f"separate them by '{TAG_SEPARATOR}'{column}"
    ]

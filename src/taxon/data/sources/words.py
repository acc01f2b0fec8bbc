"""Words and names that the sources share."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path
from typing import Literal

from taxon.core.text import is_control

Kind = Literal["flat", "taxonomy", "tags"]
TAG_SEPARATOR = "|"  # between the tags in a cell
# What joins words: `t-shirt`, `t_shirt`, `t - shirt`; not the minus of `-1` or the `-` of `A-`.
_JOINTS = re.compile(r"(?<=[^\W_])(?:\s*[_-]+\s+|[_-]+)(?=[^\W_])")


def clean(label: str) -> str:
    """Return a label without space around it, accents in one form (Unicode NFC)."""
    return unicodedata.normalize("NFC", label.strip())


def spelling(name: str) -> str:
    """Return what is left of a name without case, kind of space and hyphens between words.

    Two names of the same spelling are most probably meant to be one.
    """
    text = _JOINTS.sub(" ", unicodedata.normalize("NFKC", name).casefold())
    return "/".join(" ".join(part.split()) for part in text.split("/"))


def has_control(text: str) -> bool:
    """Whether a text holds a line end or another character that controls a terminal."""
    return any(map(is_control, text))


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


def how_to_open(folder: Path) -> str:
    """Return what to do, and to type, about a folder that may not be read."""
    return f"make it readable (chmod -R u+rX {shlex.quote(readable(str(folder)))})"

"""Docstrings as the site needs them: griffe knows one name a line, and Markdown reads brackets."""

from __future__ import annotations

import re
from typing import Any

import griffe

JOINT = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.M
)


class Docstrings(griffe.Extension):
    """`height, width: text` becomes two entries; `[a][b]` is no link."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change an object's docstring as it is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = one_name_a_line(obj.docstring.value).replace("][", "]\\[")


def one_name_a_line(docstring: str) -> str:
    """Return a docstring in which each name has an entry of its own."""
    return JOINT.sub(_apart, docstring)


def _apart(joint: re.Match[str]) -> str:
    names = joint["names"].split(", ")
    return "\n".join(f"{joint['indent']}{name}: {joint['text']}" for name in names)

"""What the report and the page of a comparison have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from taxon.evaluation.wording import percent, plain, points


def environment() -> Environment:
    """Return the templates of this package: everything is escaped, and nothing may be missing."""
    found = Environment(
        loader=PackageLoader("taxon.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(percent=percent, plain=plain, points=points, unbroken=unbroken)
    return found


def unbroken(text: str) -> str:
    """Keep a number and its unit on one line."""
    return text.replace(" %", "\u00a0%").replace(" points", "\u00a0points")


def size_words(pictures: int, classes: int, *, multilabel: bool) -> list[str]:
    """Say what was scored: `220 pictures`, `10 classes`."""
    words = [f"{pictures:,} {'picture' if pictures == 1 else 'pictures'}", f"{classes} classes"]
    return [*words, "several labels a picture"] if multilabel else words


def provenance_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write `about` for people, a row a key: `left_out` -> `Left out`; without what is empty."""
    rows = []
    for key, value in about.items():
        if value in ("", [], (), {}):
            continue
        words = key.replace("_", " ")
        rows.append((words[:1].upper() + words[1:], _text(value)))
    return rows


def _text(value: Any) -> str:
    """A string as it is, pairs as `key: value` lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)

"""Take out of texts what tells of the user's machine and pictures, before a model is published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PART = r"[^\s/\\'\"`,;:()<>|\[\]]+"
_QUOTED = re.compile(r"(['\"])(?=[/\\~]|[A-Za-z]:[/\\])([^'\"\n]*[/\\])([^'\"\n]+)\1")
# From the root, from a drive or from the home folder; the address after `https:` is none.
_PATH = re.compile(
    rf"(?<![\w./\\~-])(?!//)(?:(?:~|[A-Za-z]:)[/\\]|[/\\]{_PART}[/\\])(?:{_PART}[/\\])*"
)
_PICTURE = re.compile(
    rf"(?:{_PART}[/\\])*{_PART}\.(?:jpe?g|png|webp|bmp|tiff?|gif|avif|p[pgn]m|hei[cf])\b", re.I
)
_OF_OURS = re.compile(r"picture\.jpg|(golden|figures)/.*|.*=@picture\.jpg")
PICTURE = "PICTURE"


def without_places(text: str) -> str:
    """Cut absolute paths to their last part, and take out the names of pictures.

    `/home/ann/photos` is `photos`, and `ward-3/smith.jpg` is `PICTURE`. Addresses on the network
    stay, and so do paths that are relative.
    """
    text = _QUOTED.sub(r"\1\3\1", text)
    text = _PATH.sub("", text)
    return _PICTURE.sub(lambda found: _kept(found[0]), text)


def redacted(value: Any) -> Any:
    """JSON with all its texts so; lists of `changed_pictures` are emptied."""
    if isinstance(value, str):
        return without_places(value)
    if isinstance(value, Mapping):
        return {
            key: [] if key == "changed_pictures" else redacted(each) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def _kept(name: str) -> str:
    return name if _OF_OURS.fullmatch(name) else PICTURE

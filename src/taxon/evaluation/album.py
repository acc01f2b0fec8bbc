"""The album: small pictures as data URIs, each made once, within the room of the page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, UnidentifiedImageError

from taxon.core.cores import available_cores

SIDE = 128


class Album:
    """Makes thumbnails while there is room; a picture that is asked for twice is made once.

    Args:
        thumbnails: id -> JPEG bytes, or None where there is no picture to show; called from
            several threads.
        room: how many characters all data URIs together may have, where they are printed.
    """

    def __init__(self, thumbnails: Callable[[str], bytes | None], room: int) -> None:
        self._thumbnails = thumbnails
        self._room = room
        self._made: dict[str, str | None] = {}

    def add(self, ids: Iterable[str]) -> None:
        """Make the thumbnails of these pictures, in order, as far as there is room.

        Args:
            ids: a picture that is named twice is printed twice, and takes its room twice.
        """
        times = Counter(ids)  # in the order of the first of each
        new = [name for name in times if name not in self._made]
        with ThreadPoolExecutor(available_cores()) as pool:
            for name, uri in zip(new, pool.map(self._make, new), strict=True):
                if uri is not None and times[name] * len(uri) <= self._room:
                    self._room -= times[name] * len(uri)
                else:
                    uri = None
                self._made[name] = uri

    def get(self, name: str) -> str | None:
        """Return the data URI of a picture that was added, or None where there is none."""
        return self._made.get(name)

    def __len__(self) -> int:
        return sum(uri is not None for uri in self._made.values())

    def _make(self, name: str) -> str | None:
        content = self._thumbnails(name)
        return None if content is None else jpeg_uri(content)


def jpeg_uri(content: bytes) -> str | None:
    """Return a data URI of a JPEG of at most 128 pixels a side; None for what is no picture."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format != "JPEG" or max(image.size) > SIDE:
                small = image.convert("RGB")
                small.thumbnail((SIDE, SIDE))
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=80)
                content = buffer.getvalue()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        # A report with one picture less is better than no report.
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")

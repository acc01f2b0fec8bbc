"""Thumbnails: small pictures as data URIs, within a limit for the whole page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

from taxon.core.errors import ImageError
from taxon.data import Manifest, Record
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.decode import read_picture

SIDE = 120
PAGE_BYTES = 3_500_000
# Large JPEGs are decoded at a fraction of their size, and damaged ones are shown as far as they go.
_SPEC = Preprocessing(jpeg_dct_scaling=True, truncated="fill")


class Thumbnails:
    """Makes each thumbnail once; says None where there is no picture or no room left.

    Args:
        manifest: whose records give the files.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._records: Mapping[str, Record] = {record.id: record for record in manifest.records}
        self._made: dict[str, str | None] = {}
        self._room = PAGE_BYTES

    def __call__(self, name: str) -> str | None:
        """Return the data URI of a small JPEG."""
        if name not in self._made:
            uri = self._make(name)
            self._made[name] = uri
        # A picture that is shown twice is twice in the page.
        uri = self._made[name]
        if uri is None or len(uri) > self._room:
            return None
        self._room -= len(uri)
        return uri

    def _make(self, name: str) -> str | None:
        record = self._records.get(name)
        if record is None or not self._room:
            return None
        try:
            image = decode(read_picture(record.path), _SPEC, name, at_least=SIDE)
        except ImageError:
            return None  # a page with one picture less is better than no page
        image.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=78)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")

"""Whether the pictures of a manifest are still where they were, and the same."""

from __future__ import annotations

from taxon.core.errors import ImageError
from taxon.core.fingerprint import sha256_bytes
from taxon.data.manifest import Record
from taxon.preprocessing.decode import read_picture


def is_unchanged(record: Record) -> bool:
    """Whether the picture's file is there with the content that the manifest was made from."""
    try:
        return sha256_bytes(read_picture(record.path)) == record.sha256
    except ImageError:
        return False

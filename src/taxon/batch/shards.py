"""Tar shards, in the layout of WebDataset: pictures one after the other in an uncompressed tar."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from taxon.batch.urls import filesystem_of, is_url
from taxon.core.errors import DataError
from taxon.preprocessing.decode import SUFFIXES

SHARD_SUFFIXES = frozenset({".tar"})
# Of a shard at a URL only headers are read, 512 bytes each, and what is fetched with them.
_READ_AHEAD = 1 << 16


def members_of(shard: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size in bytes of each picture in a shard, in its order.

    What else it holds (`.cls`, `.json`, folders, links) is passed over. In shards of WebDataset a
    sample is named up to the first dot of its last part, and what follows is the column:
    `0001.left.jpg` is a picture too.

    Raises:
        DataError: it cannot be read, or is no tar.
    """
    try:
        with _opened(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                is_picture = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
                if member.isfile() and is_picture:
                    yield member.name, member.offset_data, member.size
                archive.members = []  # type: ignore[attr-defined]  # it would keep millions
            _require_end(stream, archive.offset, shard)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{shard} is no tar that can be read: {error}; shards must not be compressed"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error.strerror or error}") from error


def _require_end(stream: IO[bytes] | Any, offset: int, shard: str) -> None:
    """A tar ends with zeros. At a damaged header, too, `tarfile` ends, and says nothing.

    Raises:
        DataError: there is something else, or nothing.
    """
    stream.seek(offset)
    rest = stream.read(_READ_AHEAD)
    if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise DataError(
            f"{shard} is damaged at byte {offset:,}, or cut off there: what follows cannot be "
            "listed; write it anew, or leave it out"
        )


def _opened(shard: str) -> IO[bytes] | Any:
    if not is_url(shard):
        return Path(shard).open("rb")
    filesystem, path = filesystem_of(shard)
    return filesystem.open(path, "rb", block_size=_READ_AHEAD)

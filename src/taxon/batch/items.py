"""One picture of a job, and how its bytes are read: from a file, a URL or a tar shard."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from taxon.batch.urls import filesystem_of, is_url
from taxon.core.errors import ImageError, InputError
from taxon.core.predictions import ImageBatch
from taxon.preprocessing.decode import MAXIMUM_FILE_BYTES, read_picture
from taxon.preprocessing.preparation import Preparation

# Of a picture that lies elsewhere: a network fails for moments.
_TRIES = 4
_FIRST_WAIT = 0.5  # seconds; doubled each time
_READERS = 8  # at once, of pictures that lie elsewhere: each waits for its answer


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a job.

    Attributes:
        path: a file or a URL; of a member of a tar shard its name within.
        archive: the tar shard, a file or a URL; None where the picture is a file of its own.
        offset, size: where its bytes lie in the shard.
    """

    path: str
    archive: str | None = None
    offset: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        """How results call it: the path, or `tar://MEMBER::SHARD`, by which fsspec opens it.

        Of a name that is no UTF-8 the odd bytes are escaped: no table could hold it.
        """
        whole = self.path if self.archive is None else f"tar://{self.path}::{self.archive}"
        return os.fsencode(whole).decode("utf-8", "backslashreplace")

    def read(self) -> bytes:
        """Return the bytes of the picture's file.

        Raises:
            ImageError: it cannot be read.
        """
        if self.size > MAXIMUM_FILE_BYTES:
            raise ImageError(self.name, "larger than 1 GiB", kind="too-large")
        place = self.archive or self.path
        if is_url(place):
            return _read_url(self, place)
        if self.archive is None:
            return read_picture(Path(self.path))
        try:
            with Path(self.archive).open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise ImageError(self.name, f"the shard cannot be read: {error.strerror}") from error
        if len(data) < self.size:
            raise ImageError(self.name, "the shard ends within the picture", kind="truncated")
        return data


def _read_url(item: Item, url: str) -> bytes:
    start, end = item.offset, item.offset + item.size
    if item.archive is None:
        start, end = 0, MAXIMUM_FILE_BYTES + 1
    wait = _FIRST_WAIT
    for remaining in reversed(range(_TRIES)):
        try:
            data = _ask(url, start, end)
            break
        except FileNotFoundError as error:
            raise ImageError(item.name, "no such file", kind="missing") from error
        except PermissionError as error:
            raise ImageError(item.name, "access is refused", kind="missing") from error
        except Exception as error:  # each protocol has errors of its own
            if isinstance(error, InputError):
                raise
            if not remaining:
                reason = f"cannot be fetched: {type(error).__name__}: {error}"
                raise ImageError(item.name, reason[:300], kind="missing") from error
            time.sleep(wait)
            wait *= 2
    if item.archive is not None and len(data) != item.size:
        raise ImageError(item.name, "the server did not send this part of the shard")
    if len(data) > MAXIMUM_FILE_BYTES:
        raise ImageError(item.name, "larger than 1 GiB", kind="too-large")
    return data


def _ask(url: str, start: int, end: int) -> bytes:
    filesystem, path = filesystem_of(url)
    return bytes(filesystem.cat_file(path, start=start, end=end))


def prepare_item(item: Item, preparation: Preparation) -> ImageBatch | ImageError:
    """Read and decode a picture, uint8 [3, H, W]; of one that cannot be read, the error."""
    try:
        return preparation.prepare(item.read(), item.name)
    except ImageError as error:
        return error


def prepare_items(items: Sequence[Item], preparation: Preparation) -> list[ImageBatch | ImageError]:
    """Read and decode pictures, in order; several at once where they must be fetched."""
    prepare_one = partial(prepare_item, preparation=preparation)
    if any(is_url(item.archive or item.path) for item in items):
        return list(_readers().map(prepare_one, items))
    return [prepare_one(item) for item in items]


@lru_cache(maxsize=1)
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="taxon-read")

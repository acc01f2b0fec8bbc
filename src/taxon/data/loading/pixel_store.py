"""Where the decode cache keeps its entries: the memory of the process, or files."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_MAGIC = b"TAXONPX1"
_HEADER = struct.Struct("<8s4I")  # magic, the three sides, crc32 of the pixels
_SUFFIX, _UNFINISHED = ".pixels", ".tmp"
_ABANDONED_SECONDS = 600  # a write takes milliseconds


class Store(Protocol):
    """Where entries are kept."""

    def get(self, key: str) -> Pixels | None:
        """Return an entry, or None."""

    def put(self, key: str, pixels: Pixels) -> str | None:
        """Keep an entry; return what hinders it, in words, once."""


@dataclass
class MemoryStore:
    """Entries in the memory of this process."""

    entries: dict[str, Pixels] = field(default_factory=dict)

    def get(self, key: str) -> Pixels | None:
        """Return an entry, or None."""
        return self.entries.get(key)

    def put(self, key: str, pixels: Pixels) -> None:
        """Keep an entry."""
        self.entries[key] = pixels


@dataclass
class DiskStore:
    """Entries in files, one each, shared by all processes and later runs.

    A file is the raw pixels after a header with their checksum: read ten times faster than PNG
    or JPEG is decoded. It appears whole, by renaming, and one that is damaged counts as absent.
    """

    folder: Path
    working: bool = True

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def get(self, key: str) -> Pixels | None:
        """Return an entry, or None where it is absent or damaged."""
        try:
            content = self.path(key).read_bytes()
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        magic, *shape, checksum = _HEADER.unpack_from(content)
        body = memoryview(content)[_HEADER.size :]
        if magic != _MAGIC or len(body) != math.prod(shape) or zlib.crc32(body) != checksum:
            return None
        return np.frombuffer(body, dtype=np.uint8).reshape(shape)

    def put(self, key: str, pixels: Pixels) -> str | None:
        """Keep an entry; after the first failure (a full disk) nothing more is written."""
        if not self.working:
            return None
        target = self.path(key)
        body = np.ascontiguousarray(pixels).data
        header = _HEADER.pack(_MAGIC, *pixels.shape, zlib.crc32(body))
        temporary = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=target.parent, suffix=_UNFINISHED, delete=False
            ) as stream:
                temporary = Path(stream.name)
                stream.write(header)
                stream.write(body)
            os.replace(temporary, target)
        except OSError as error:
            self.working = False
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            return f"decoded pictures are no longer kept ({error.strerror or error})"
        return None

    def held(self) -> int:
        """Bytes of all entries."""
        total = 0
        for file in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process removed it
                total += file.stat().st_size
        return total

    def claim(self, keys: Container[str], limit: int, planned: int) -> None:
        """Make room for a run: remove what others left, oldest first, until all fits `limit`.

        Args:
            keys: the run's own entries, which count as just used.
            planned: their bytes, those that are not there yet included.
        """
        others: list[tuple[float, int, Path]] = []
        total, now = planned, time.time()
        for file in self.folder.glob("*/*"):
            try:
                status = file.stat()
                if file.suffix == _UNFINISHED:
                    if now - status.st_mtime > _ABANDONED_SECONDS:
                        file.unlink()
                    else:
                        total += status.st_size
                elif file.stem in keys:
                    os.utime(file)
                elif file.suffix == _SUFFIX:
                    others.append((status.st_mtime, status.st_size, file))
            except OSError:
                continue  # another process removed it
        total += sum(size for _, size, _ in others)
        for _, size, file in sorted(others):
            if total <= limit:
                break
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            total -= size

"""Where a job writes: a local folder, or one at a URL; no reader ever sees half of a file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxon.batch.urls import filesystem_of, is_url
from taxon.core.errors import OutputError
from taxon.core.files import atomic_file

_LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp\..+")  # by a killed process, of `atomic_file`


@dataclass(frozen=True)
class Place:
    """A folder of files, which processes of other machines may open too.

    Attributes:
        address: a path or a URL.
    """

    address: str

    @property
    def is_remote(self) -> bool:
        """Whether every machine can reach it, and not this one alone."""
        return is_url(self.address)

    def names(self) -> set[str]:
        """Return the names of the files in it; none where there is no such folder.

        Raises:
            OutputError: it cannot be listed.
        """
        with self._errors():
            if not self.is_remote:
                folder = Path(self.address)
                return {file.name for file in folder.iterdir()} if folder.is_dir() else set()
            filesystem, path = filesystem_of(self.address)
            if not filesystem.isdir(path):
                return set()
            return {str(file).rpartition("/")[2] for file in filesystem.ls(path, detail=False)}

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OutputError: it cannot be read.
        """
        with self._errors():
            if not self.is_remote:
                return (Path(self.address) / name).read_bytes()
            filesystem, path = filesystem_of(self.address)
            filesystem.invalidate_cache()
            return bytes(filesystem.cat_file(f"{path}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in place of one of this name; whole or not at all.

        At a URL it is one upload, which object stores show when it is complete.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.is_remote:
            with atomic_file(Path(self.address) / name) as temporary:
                temporary.write_bytes(data)
            return
        with self._errors():
            filesystem, path = filesystem_of(self.address)
            filesystem.makedirs(path, exist_ok=True)
            filesystem.pipe_file(f"{path}/{name}", data)
            filesystem.invalidate_cache()

    def take(self, file: Path, name: str) -> None:
        """Copy a local file into it, in place of one of this name; whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.is_remote:
            with atomic_file(Path(self.address) / name) as temporary:
                shutil.copyfile(file, temporary)
            return
        with self._errors():
            filesystem, path = filesystem_of(self.address)
            filesystem.makedirs(path, exist_ok=True)
            filesystem.put_file(str(file), f"{path}/{name}")
            filesystem.invalidate_cache()

    @contextmanager
    def local_copy(self, name: str, scratch: Path) -> Iterator[Path]:
        """Yield a local path of a file, which is copied into `scratch` where it lies at a URL."""
        if not self.is_remote:
            yield Path(self.address) / name
            return
        copy = scratch / name
        with self._errors():
            filesystem, path = filesystem_of(self.address)
            filesystem.get_file(f"{path}/{name}", str(copy))
        yield copy

    def remove(self, names: set[str]) -> None:
        """Remove files.

        Raises:
            OutputError: one cannot be removed.
        """
        with self._errors():
            if not self.is_remote:
                for name in names:
                    (Path(self.address) / name).unlink(missing_ok=True)
                return
            filesystem, path = filesystem_of(self.address)
            for name in names:
                filesystem.rm_file(f"{path}/{name}")
            filesystem.invalidate_cache()

    def tidy(self) -> None:
        """Remove what a killed process left half-written."""
        if not self.is_remote:
            self.remove({name for name in self.names() if _LEFT_BEHIND.fullmatch(name)})

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except Exception as error:  # each protocol has errors of its own
            reason = f"{type(error).__name__}: {error}"[:300]
            raise OutputError(f"cannot use {self.address}: {reason}") from error

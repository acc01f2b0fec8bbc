"""Archives: .zip and .tar files are unpacked once, safely, into the cache."""

from __future__ import annotations

import errno
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from taxon.core.errors import DataError
from taxon.data.sources.unpacked import COMPLETE, unpacked

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = ZIP_SUFFIXES + TAR_SUFFIXES
# Pictures hardly compress: what grows a hundredfold is no data set. Small archives may.
MAXIMUM_GROWTH = 100
ALWAYS_ALLOWED_BYTES = 1 << 30
MAXIMUM_FILES = 5_000_000
MAXIMUM_DEPTH = 100  # folders in folders
MAXIMUM_NAME_BYTES = 4096
_CHUNK = 1 << 20
# All that the readers of the standard library raise on damaged files.
_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive which can be unpacked."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(path: Path) -> Path:
    """Unpack an archive into the cache, once, and return the folder with its content.

    A single folder that holds all the rest is stepped into. Nothing is written outside of the
    cache, no link is made, and sizes are counted while unpacking, whatever the headers say.

    Raises:
        DataError: damaged, encrypted, a bomb, or a member that does not belong below a folder.
        OutputError: the cache cannot be written or the disk is full.
    """
    name = path.name
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    folder = unpacked("archives", name, [path], lambda target: _unpack(path, target))
    inside = [child for child in folder.iterdir() if not child.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


@dataclass(frozen=True)
class _Member:
    """A file or folder of an archive, read through `open`; a folder has none."""

    name: str
    source: IO[bytes] | None


def _unpack(path: Path, target: Path) -> None:
    limit = max(ALWAYS_ALLOWED_BYTES, MAXIMUM_GROWTH * path.stat().st_size)
    total = count = 0
    members = _zip_members(path) if _is_zip(path) else _tar_members(path)
    while (member := _next(members, path)) is not None:
        count += 1
        if count > MAXIMUM_FILES:
            raise DataError(f"{path} holds more than {MAXIMUM_FILES} files: an archive bomb?")
        relative = _safe(member.name, path)
        if relative is None:
            continue
        place = target / relative
        if member.source is None:
            with _blaming(member.name, path):
                place.mkdir(parents=True, exist_ok=True)
            continue
        _require_new(place, member.name, path)
        with _blaming(member.name, path):
            place.parent.mkdir(parents=True, exist_ok=True)
            stream = place.open("xb")
        with stream:
            while chunk := _read(member.source, path):
                total += len(chunk)
                if total > limit:
                    raise DataError(
                        f"{path} unpacks to more than {limit >> 20} MB, {MAXIMUM_GROWTH} times "
                        "its size: an archive bomb? If it is none, unpack it yourself and name "
                        "the folder"
                    )
                stream.write(chunk)


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(ZIP_SUFFIXES)


def _next(members: Iterator[_Member], path: Path) -> _Member | None:
    """Return the next member; errors of reading stay apart from those of writing."""
    try:
        return next(members, None)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _read(source: IO[bytes], path: Path) -> bytes:
    try:
        return source.read(_CHUNK)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, RecursionError):
        reason = "links in it lead to each other"
    else:
        # Some messages go on over several lines, one for each kind of compression.
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(":")
    if not _is_zip(path) and zipfile.is_zipfile(path):
        reason = "it is a zip; give it the suffix .zip"
    return DataError(f"{path} is damaged, or no archive of its suffix: {reason}")


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename:  # which the library itself does not expect
                raise zipfile.BadZipFile("a file in it has no name")
            if info.is_dir():
                yield _Member(info.filename, None)
                continue
            if info.flag_bits & 0x1:
                raise DataError(
                    f"{path} is encrypted; unpack it with its password and name the folder"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _refused(path, info.filename, "is a link")
            with archive.open(info) as source:
                yield _Member(info.filename, source)


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isdir():
                yield _Member(info.name, None)
            elif info.isreg():
                yield _Member(info.name, archive.extractfile(info))
            elif info.issym() or info.islnk():
                _require_inside(info, path)
                # The file that the link means is copied: no link ever lies on the disk.
                source = archive.extractfile(info)
                if source is None:
                    raise _refused(path, info.name, "is a link to a folder")
                yield _Member(info.name, source)
            else:
                raise _refused(path, info.name, "is a device or a pipe")
        _require_end(archive)


def _require_end(archive: tarfile.TarFile) -> None:
    """Refuse half a file: `tarfile` takes a damaged header for the end and says nothing."""
    stream = archive.fileobj
    assert stream is not None  # open for reading
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends early, or a header in it is damaged")


def _require_inside(info: tarfile.TarInfo, path: Path) -> None:
    folder = posixpath.dirname(info.name) if info.issym() else ""
    target = posixpath.normpath(posixpath.join(folder, info.linkname))
    if target.startswith(("/", "../")) or target == "..":
        raise _refused(path, info.name, f"is a link out of it, to '{info.linkname}'")


def _safe(name: str, path: Path) -> PurePosixPath | None:
    """Return where a member goes below the folder; None for what only macOS needs.

    Raises:
        DataError: an absolute name, one with `..`, one that no file can have, or taxon's own.
    """
    if len(name.encode("utf-8", "replace")) > MAXIMUM_NAME_BYTES:
        raise _refused(path, name[:80], f"has a name of more than {MAXIMUM_NAME_BYTES} bytes")
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if len(parts) > MAXIMUM_DEPTH:
        raise _refused(path, name[:80], f"lies more than {MAXIMUM_DEPTH} folders deep")
    if not parts or "__MACOSX" in parts or parts[-1] == ".DS_Store":
        return None
    if parts[0].startswith("/") or ":" in parts[0] or ".." in parts:
        raise _refused(path, name, "would be written outside of the folder")
    if "\0" in name or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise _refused(path, name[:80], "is no name that a file can have")
    if parts[0].casefold() == COMPLETE:
        raise _refused(path, name[:80], "has a name that taxon needs for itself")
    return PurePosixPath(*parts)


def _require_new(place: Path, name: str, path: Path) -> None:
    if place.exists():
        raise _refused(path, name, "is there twice (or its name differs by case only)")


@contextmanager
def _blaming(name: str, path: Path) -> Iterator[None]:
    """What cannot be made because of other members is the archive's fault, not the cache's."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise _refused(path, name, "is a file and a folder at once") from None
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise
        raise _refused(path, name[:80], "is no name that a file can have") from None


def _refused(path: Path, name: str, reason: str) -> DataError:
    return DataError(
        f"{path} is not unpacked: {name!r} in it {reason}; unpack it yourself, look at it, and "
        "name the folder"
    )

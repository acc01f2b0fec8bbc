"""The cache of looks: a file that did not change since need not be decoded again."""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.feather as feather

from taxon.core.cache import cache_folder
from taxon.core.errors import ImageError, ImageProblem, OutputError
from taxon.core.files import atomic_file
from taxon.core.fingerprint import sha256_json
from taxon.data.look import LOOK_VERSION, Look
from taxon.preprocessing import Preprocessing

_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
    "str | None": pa.string(),
    "Colour": pa.list_(pa.float64()),
}
_LOOK_FIELDS = fields(Look)
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("changed", pa.int64()),
        ("touched", pa.int64()),
        ("failure", pa.string()),
        ("kind", pa.string()),
        *(
            (field.name, pa.uint64() if field.name == "hash" else _TYPES[str(field.type)])
            for field in _LOOK_FIELDS
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is known to be the same.

    Attributes:
        size: in bytes.
        changed: time of the content's last change in ns, which a copy may bring along.
        touched: time of the last change to the file itself in ns, which only the system sets
            (of the creation, on Windows).
    """

    path: str
    size: int
    changed: int
    touched: int


_STAMP = len(fields(Stamp))


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        ImageError: it is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(str(path), error.strerror or str(error), kind="missing") from error
    return Stamp(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class LookCache:
    """The looks into the files of one data set, read at the start and written at the end.

    A cache that cannot be read or written costs time, and nothing else.

    Args:
        root: of the data set; each has a file of its own.
        spec: looks by another decoding do not count.
        part: only some of the pictures are looked into: what is known of the others is kept.

    Attributes:
        problem: why looks are not kept for the next time, or None.
    """

    def __init__(self, root: Path, spec: Preprocessing, *, part: bool = False) -> None:
        self._part = part
        decoding = [LOOK_VERSION, spec.max_pixels, spec.truncated, spec.exif_orientation]
        name = sha256_json([os.path.abspath(root), decoding, spec.background])[:32]
        self.problem: str | None = None
        self._file: Path | None = None
        try:
            self._file = cache_folder("looks") / f"{name}.arrow"
        except OutputError as error:
            self.problem = str(error)
        self._known: dict[Stamp, Look | _Failure] = {}
        self._used: dict[Stamp, Look | _Failure] = {}
        self._fresh = False

    def __enter__(self) -> Self:
        if self._file is not None:
            self._known = _read(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An interrupted look is kept too: what was found is true.
        if self._fresh and self._file is not None:
            try:
                whole = error is None and not self._part
                _write(self._file, self._used if whole else {**self._known, **self._used})
            except OutputError as problem:  # a full disk: the looks are made again next time
                self.problem = str(problem)

    def get(self, stamp: Stamp) -> Look | None:
        """Return what an earlier look found, or None.

        Raises:
            ImageError: it found that the picture cannot be read.
        """
        found = self._used.get(stamp) or self._known.get(stamp)
        if found is not None:
            self._used[stamp] = found
        if isinstance(found, _Failure):
            raise ImageError(stamp.path, found.reason, kind=found.kind)
        return found

    def put(self, stamp: Stamp, look: Look) -> None:
        """Keep what a look found."""
        self._used[stamp] = look
        self._fresh = True

    def put_failure(self, stamp: Stamp, error: ImageError) -> None:
        """Keep that a picture cannot be read, unless that may end without the file changing."""
        if error.kind in ("truncated", "damaged", "empty", "too-large"):
            self._used[stamp] = _Failure(error.reason, error.kind)
            self._fresh = True


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    kind: ImageProblem


def _read(file: Path) -> dict[Stamp, Look | _Failure]:
    try:
        table = feather.read_table(file, memory_map=False)
    except (OSError, pa.ArrowException):
        return {}  # absent or damaged: everything is looked into again
    if table.schema != _SCHEMA:
        return {}
    columns = [column.to_pylist() for column in table.columns]
    return {Stamp(*row[:_STAMP]): _found(row[_STAMP:]) for row in zip(*columns, strict=True)}


def _found(values: tuple[Any, ...]) -> Look | _Failure:
    failure, kind, *rest = values
    if failure is not None:
        return _Failure(failure, kind)
    found: list[Any] = [tuple(value) if isinstance(value, list) else value for value in rest]
    return Look(*found)


def _write(file: Path, found: dict[Stamp, Look | _Failure]) -> None:
    empty = (None,) * len(_LOOK_FIELDS)
    rows = [
        (*astuple(stamp), value.reason, value.kind, *empty)
        if isinstance(value, _Failure)
        else (*astuple(stamp), None, None, *astuple(value))
        for stamp, value in found.items()
    ]
    columns = zip(*rows, strict=True)
    arrays = [
        pa.array(list(column), field.type) for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    with atomic_file(file) as temporary:
        feather.write_feather(pa.table(arrays, schema=_SCHEMA), str(temporary))

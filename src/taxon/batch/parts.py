"""Parts of a job's output: Parquet files, each whole or not there."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from taxon.batch.places import Place
from taxon.core.errors import OutputError

_NAME = re.compile(r"part-(\d{6,})\.parquet")
_ERRORS = b"taxon.errors"  # in the metadata: how many pictures could not be read
_JOB = b"taxon.job"


def part_name(part: int) -> str:
    """The file of a part, from 0."""
    return f"part-{part:06d}.parquet"


def part_number(name: str) -> int | None:
    """The part that a file holds; None where it is none."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def write_part(place: Place, part: int, job: str, pieces: Sequence[pa.Table]) -> int:
    """Write the rows of a part, whole or not at all; return how many have an error.

    The bytes depend on the rows alone, so that writing a part again changes nothing.

    Args:
        job: its fingerprint, written with the rows.

    Raises:
        OutputError: it cannot be written.
    """
    table = pa.concat_tables(pieces).combine_chunks()
    errors = len(table) - table.column("error").null_count
    told = {_ERRORS: str(errors).encode(), _JOB: job.encode()}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(told), stream, compression="zstd")
    place.write(part_name(part), stream.getvalue())
    return int(errors)


def part_errors(place: Place, part: int, job: str, length: int) -> int | None:
    """How many pictures of a finished part have an error; None where it is not this job's, whole.

    Raises:
        OutputError: the place cannot be read.
    """
    with TemporaryDirectory(prefix="taxon-") as scratch:
        try:
            with (
                place.local_copy(part_name(part), Path(scratch)) as file,
                file.open("rb") as stream,  # Arrow takes no name that is not UTF-8
            ):
                found = pq.read_metadata(stream)
        except (OSError, pa.ArrowException):  # cut off, say by a loss of power
            return None
    told = found.metadata or {}
    if found.num_rows != length or told.get(_JOB) != job.encode() or _ERRORS not in told:
        return None
    return int(told[_ERRORS])


def require_place(place: Place, names: set[str], known: set[str]) -> None:
    """Refuse a folder that holds what no job wrote.

    Raises:
        OutputError: it does.
    """
    foreign = sorted(
        name
        for name in names
        if name not in known and part_number(name) is None and not name.startswith(".")
    )
    if foreign:
        raise OutputError(
            f"{place.address} holds {foreign[0]}, which no job wrote; name another folder with "
            "--out, one that does not exist yet"
        )

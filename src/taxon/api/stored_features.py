"""Features of a data set's pictures out of the parts that `taxon embed` wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taxon.api.feature_sources import PARTS, require_columns
from taxon.batch.items import Item
from taxon.core.errors import DataError
from taxon.core.predictions import FloatArray
from taxon.data import Record

_ROWS = 4096


def holds_parts(folder: Path) -> bool:
    """Whether there are parts in it."""
    return folder.is_dir() and any(folder.glob(PARTS))


def stored_features(folder: Path, records: Sequence[Record]) -> FloatArray:
    """Read the features of pictures, by their paths; the parts may hold further ones.

    Returns:
        float32 [N, F], in the order of the records.

    Raises:
        DataError: parts that cannot be read or do not fit each other, or a picture that they have
            no features of.
    """
    wanted: dict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        wanted[Item(str(record.path)).name].append(position)
    features: FloatArray | None = None
    found = np.zeros(len(records), bool)
    reasons: dict[int, str] = {}
    for batch, file in _batches(folder):
        rows = _Rows(batch, file)
        if features is None:
            features = np.zeros((len(records), rows.size), np.float32)
        elif features.shape[1] != rows.size:
            raise DataError(
                f"{file} holds {rows.size} features a picture, and the parts before it "
                f"{features.shape[1]}: they are of two models; write them anew with `taxon embed`"
            )
        for row, name in enumerate(rows.names):
            positions = wanted.get(name, [])
            if rows.there[row]:
                features[positions] = rows.values[row]
                found[positions] = True
            reasons.update(dict.fromkeys(positions, rows.errors[row] or ""))
    missing = np.flatnonzero(~found).tolist()
    if features is None or missing:
        raise _lacking(folder, records, missing, reasons)
    return features


def _batches(folder: Path) -> Iterator[tuple[Any, Path]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for file in sorted(folder.glob(PARTS)):
            with pq.ParquetFile(file) as part:
                require_columns(part.schema_arrow.names, file)
                columns = ["path", "features", "error"]
                for batch in part.iter_batches(_ROWS, columns=columns):
                    yield batch, file
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder} cannot be read ({reason}); write it anew with `taxon embed`"
        ) from error


class _Rows:
    """Some rows of a part.

    Attributes:
        size: features a picture.
        there: bool [N]: whether a row has them.
        values: float32 [N, size]; anything where there are none.
    """

    def __init__(self, batch: Any, file: Path) -> None:
        import pyarrow as pa

        column = batch.column("features")
        if not pa.types.is_fixed_size_list(column.type):
            raise DataError(f"{file} is no part that `taxon embed` wrote: its features are no rows")
        self.size = int(column.type.list_size)
        self.names: list[str] = batch.column("path").to_pylist()
        self.errors: list[str | None] = batch.column("error").to_pylist()
        self.there = column.is_valid().to_numpy(zero_copy_only=False)
        self.values = np.zeros((len(batch), self.size), np.float32)
        kept = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        self.values[self.there] = kept.reshape(-1, self.size)


def _lacking(
    folder: Path, records: Sequence[Record], missing: Sequence[int], reasons: dict[int, str]
) -> DataError:
    first = missing[0] if missing else 0
    why = reasons.get(first)
    if why is None:
        say = f"say {records[first].path}"
        remedy = "name the parts that `taxon embed` wrote of the same files, by the same paths"
    else:
        say = f"say {records[first].path}: {why or 'its row has none'}"
        remedy = "write them anew with `taxon embed`"
    return DataError(
        f"{folder} has no features of {len(missing):,} of {len(records):,} pictures ({say}); "
        f"{remedy}"
    )

"""Features of pictures: computed from files, or read from the parts that `taxon embed` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from taxon.batch.items import Item
from taxon.batch.listing import list_items
from taxon.core.cores import available_cores
from taxon.core.errors import DataError, ImageError
from taxon.core.fingerprint import sha256_bytes
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference import Embedder

PARTS = "part-*.parquet"
BATCH = 16
_STORED_ROWS = 4096
_SAME_MODEL = 0.999  # cosine of a picture's features with those that were stored
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some pictures, in order.

    Attributes:
        paths: where they lie.
        features: float32 [N, F].
        probabilities: float32 [N, C], calibrated; None where the features were stored.
        hashes: sha256 of the files; None where the files were not read.
    """

    paths: tuple[str, ...]
    features: FloatArray
    probabilities: FloatArray | None = None
    hashes: tuple[str, ...] | None = None


class FeatureSource:
    """The pictures of some sources with their features, batch by batch.

    Args:
        sources: files, folders and glob patterns; or one folder of parts that `taxon embed` wrote.
        progress: called with (what, done, total).

    Attributes:
        failures: path -> why it has no features; complete when all batches were read.
        stored: whether the features are read, not computed.

    Raises:
        DataError: no pictures there.
    """

    def __init__(
        self, embedder: Embedder, sources: Sequence[str], progress: Progress | None = None
    ) -> None:
        self.failures: dict[str, str] = {}
        self._embedder = embedder
        self._progress = progress or _silent
        self._parts = _parts(sources)
        self.stored = bool(self._parts)
        self._pictures = [] if self.stored else list(list_items(sources))

    def __iter__(self) -> Iterator[FeatureBatch]:
        return self._read() if self.stored else self._compute()

    def _compute(self) -> Iterator[FeatureBatch]:
        """Decode one batch ahead of the computation, on all cores."""
        remaining, done = iter(self._pictures), 0
        with ThreadPoolExecutor(available_cores()) as pool:
            ahead: list[tuple[Item, Future[_Loaded]]] = self._submit(pool, remaining)
            while ahead:
                current, ahead = ahead, self._submit(pool, remaining)
                loaded = [(item.name, self._loaded(item, future)) for item, future in current]
                done += len(current)
                self._progress("pictures", done, len(self._pictures))
                read = [(name, each) for name, each in loaded if each is not None]
                if read:
                    outputs = self._embedder.outputs(np.stack([each.image for _, each in read]))
                    assert outputs.features is not None
                    yield FeatureBatch(
                        tuple(name for name, _ in read),
                        outputs.features,
                        outputs.probabilities,
                        tuple(each.sha256 for _, each in read),
                    )

    def _submit(
        self, pool: ThreadPoolExecutor, remaining: Iterator[Item]
    ) -> list[tuple[Item, Future[_Loaded]]]:
        return [(item, pool.submit(self._load, item)) for item in islice(remaining, BATCH)]

    def _load(self, item: Item) -> _Loaded:
        data = item.read()
        return _Loaded(self._embedder.prepare(data, item.name), sha256_bytes(data))

    def _loaded(self, item: Item, future: Future[_Loaded]) -> _Loaded | None:
        try:
            return future.result()
        except ImageError as error:
            self.failures[item.name] = error.reason
            return None

    def _read(self) -> Iterator[FeatureBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        compared, done, total = False, 0, 0
        try:
            total = sum(pq.read_metadata(file).num_rows for file in self._parts)
            for file in self._parts:
                with pq.ParquetFile(file) as part:
                    require_columns(part.schema_arrow.names, file)
                    columns = ["path", "features", "error"]
                    for batch in part.iter_batches(_STORED_ROWS, columns=columns):
                        done += len(batch)
                        self._progress("pictures", done, total)
                        read = self._of_table(batch, file)
                        if len(read.paths) and not compared:
                            require_same_model(self._embedder, read.paths, read.features, file)
                            compared = True
                        yield read
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self._parts[0].parent} cannot be read ({reason}); write it anew with "
                "`taxon embed`"
            ) from error

    def _of_table(self, batch: Any, file: Path) -> FeatureBatch:
        """Rows of a part; those without features become failures."""
        names, errors = batch.column("path").to_pylist(), batch.column("error").to_pylist()
        column = batch.column("features")
        there = column.is_valid().to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(~there).tolist():
            self.failures[names[row]] = errors[row] or "it has no features"
        values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        count = int(there.sum())
        if len(values) != count * self._embedder.size:
            raise DataError(
                f"{file} holds {len(values) // max(1, count)} features a picture, and this model "
                f"gives {self._embedder.size}: they are of another model; write them anew with "
                "`taxon embed`"
            )
        features = values.reshape(count, self._embedder.size).astype(np.float32)
        return FeatureBatch(tuple(names[row] for row in np.flatnonzero(there).tolist()), features)


@dataclass(frozen=True)
class _Loaded:
    image: ImageBatch
    sha256: str


def _parts(sources: Sequence[str]) -> list[Path]:
    """The files of a folder that `taxon embed` wrote; none where the source is anything else."""
    folders = [name for name in sources if Path(name).is_dir() and any(Path(name).glob(PARTS))]
    if folders and len(sources) > 1:
        raise DataError(
            f"{folders[0]} holds features that `taxon embed` wrote; such a folder is searched "
            "alone, without other sources"
        )
    return sorted(Path(folders[0]).glob(PARTS)) if folders else []


def require_same_model(
    embedder: Embedder, paths: Sequence[str], features: FloatArray, place: Path
) -> None:
    """Compute one picture's features again, if it can be read: two models may be of a size.

    Args:
        features: float32 [N, F], which lie in `place`.

    Raises:
        DataError: they are others, or of another length.
    """
    if features.shape[1] != embedder.size:
        raise DataError(
            f"{place} holds {features.shape[1]} features a picture, and this model gives "
            f"{embedder.size}: they are of another model; write them anew with `taxon embed`"
        )
    for path, stored in zip(paths[:BATCH], features, strict=False):
        try:
            image = embedder.prepare(Item(path).read(), path)
        except ImageError:
            continue
        computed = embedder.run(image[None])[0].astype(np.float64)
        lengths = float(np.linalg.norm(stored)) * float(np.linalg.norm(computed))
        if float(stored @ computed) < _SAME_MODEL * lengths:
            raise DataError(
                f"the features in {place} are not those that this model gives for {path}: they "
                "are of another model, or the picture was changed; write them anew with "
                "`taxon embed`"
            )
        return


def require_columns(names: Sequence[str], file: Path) -> None:
    """Refuse what is no part.

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in ("path", "features", "error") if name not in names]
    if missing:
        raise DataError(
            f"{file} has no column '{missing[0]}': it is no part that `taxon embed` wrote (it has: "
            f"{', '.join(names)})"
        )


def _silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""

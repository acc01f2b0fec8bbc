"""The Ray engine of a job: decode on CPUs, compute in actors, write parts; as a stream.

A row of the stream is a piece: some hundred pictures that are decoded into one block, computed by
one call of an actor and forgotten. Memory is bounded by how many blocks are under way, which Ray
Data sees to. What fails because a process or a machine is gone is done again by Ray; what was
written stays, and a part that is written twice is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from taxon.batch.compute import Computer, Task
from taxon.batch.items import prepare_items
from taxon.batch.job import OpenJob
from taxon.batch.local import Progress
from taxon.batch.parts import write_part
from taxon.batch.places import Place
from taxon.batch.plan import items_table, pieces_of, table_items
from taxon.core.errors import ConfigError, ImageError, TaxonError
from taxon.preprocessing.preparation import Preparation
from taxon.scale.cluster import connected, ordered, own_error
from taxon.scale.shipping import open_packed, packed, packed_table, unpacked_table

# Shares of a core, by which Ray places work; each core has an actor and decodes beside it. An
# actor's is small, so that those of a lost machine find room on the others.
_ACTOR_CPUS = 0.2
_DECODE_CPUS = 0.4
# Pieces of one stream: what Ray keeps of each, to do it again, must not grow without end.
_ROUND = 8192


def run_on_ray(
    opened: OpenJob,
    task: Task,
    *,
    address: str | None,
    progress: Progress,
    tell: Callable[[str], None],
) -> dict[int, int]:
    """Compute the open parts of a job on a Ray cluster.

    Args:
        address: as in `connected`.

    Returns:
        Of each part that was computed, how many of its pictures have an error.

    Raises:
        CheckFailed: a machine computes something else than this one.
        ConfigError: nothing answers at the address.
        OutputError: a part cannot be written.
    """
    if address is not None and address.startswith("ray://") and not opened.place.is_remote:
        raise ConfigError(
            f"by {address} this machine is no part of the cluster, which could not write to "
            f"{opened.place.address}; name a URL with --out, or give the command on a node"
        )
    errors: dict[int, int] = {}
    with connected(address, tell) as ray, ordered():
        # As one object, of which an actor that is started anew finds the reference.
        shipped = [ray.put((task, packed(task)))]
        for parts in _rounds(opened):
            stream = _stream(ray, opened, task, shipped, parts)
            try:
                for row in stream.iter_rows():
                    errors[int(row["part"])] = int(row["errors"])
                    progress(int(row["pictures"]), int(row["errors"]))
            except Exception as error:
                ours = own_error(error)
                if ours is None:
                    raise
                raise ours from error
    return errors


def _rounds(opened: OpenJob) -> Iterator[list[int]]:
    """The open parts, so many at a time."""
    pieces = -(-opened.job.part_size // opened.job.piece_size)
    count = max(1, _ROUND // pieces)
    parts = opened.open_parts
    for start in range(0, len(parts), count):
        yield parts[start : start + count]


def _stream(ray: Any, opened: OpenJob, task: Task, shipped: Any, parts: Sequence[int]) -> Any:
    """The stream of these parts, which begins when it is read; a row a part that was written."""
    import ray.data as ray_data

    job, on_gpu = opened.job, task.opening.device != "cpu"
    available = ray.cluster_resources()
    pieces = _pieces(opened, parts)
    workers = max(1, min(len(pieces), int(available.get("GPU" if on_gpu else "CPU", 1))))
    # Where a part is written: other machines need not see this one's disk.
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return (
        ray_data.from_arrow(pieces)
        .map_batches(
            partial(_decode, preparation=task.preparation),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray_data.TaskPoolStrategy(size=max(1, int(available.get("CPU", 1)))),
            num_cpus=_DECODE_CPUS,
        )
        .map_batches(
            _Computing,
            fn_constructor_args=(shipped,),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            # Of a pool that may shrink, one that was still to start was let go and ended the job.
            compute=ray_data.ActorPoolStrategy(size=workers),
            num_cpus=_ACTOR_CPUS,
            num_gpus=1 if on_gpu else 0,
        )
        .map_batches(
            partial(_write, place=opened.place, fingerprint=job.fingerprint),
            batch_size=-(-job.part_size // job.piece_size),
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=0,  # the machine of the command may be one that computes nothing
            label_selector=None if opened.place.is_remote else here,
        )
    )


def _pieces(opened: OpenJob, parts: Sequence[int]) -> list[pa.Table]:
    """A table a piece: which it is, and its pictures."""
    tables = []
    for part in parts:
        items = opened.plan.read(part)
        for number, piece in enumerate(pieces_of(len(items), opened.job.piece_size)):
            row = {
                "part": [part],
                "piece": [number],
                "last": [piece.stop == len(items)],
                "content": [packed_table(items_table(items[piece]))],
            }
            tables.append(pa.table(row, _ROW))
    return tables


_ROW = pa.schema(
    [
        ("part", pa.int64()),
        ("piece", pa.int64()),
        ("last", pa.bool_()),
        ("content", pa.large_binary()),
    ]
)
_DECODED = pa.schema(
    [
        *_ROW,
        ("names", pa.list_(pa.string())),
        ("reasons", pa.list_(pa.string())),  # why not; null for pictures that could be read
    ]
)


def _decode(batch: pa.Table, preparation: Preparation) -> Iterator[pa.Table]:
    """Pictures -> their pixels, those of all that can be read one after the other."""
    for row in batch.to_batches(max_chunksize=1):
        items = table_items(unpacked_table(row.column("content")[0]))
        images = prepare_items(items, preparation)
        readable = [image for image in images if not isinstance(image, ImageError)]
        pixels = np.stack(readable) if readable else np.zeros(0, np.uint8)
        reasons = [image.reason if isinstance(image, ImageError) else None for image in images]
        columns = [
            *(row.column(name) for name in ("part", "piece", "last")),
            _large_binary(pixels),
            pa.array([[item.name for item in items]], pa.list_(pa.string())),
            pa.array([reasons], pa.list_(pa.string())),
        ]
        yield pa.table(columns, _DECODED)


class _Computing:
    """An actor: the model, open; pixels -> rows of the output."""

    def __init__(self, shipped: list[Any]) -> None:
        import ray

        self._task, data = ray.get(shipped[0])
        self._opened: Computer | TaxonError
        try:
            self._opened = open_packed(self._task, data)
        except TaxonError as error:
            # Raised later: of an actor that fails to start Ray tells the text of the error alone.
            self._opened = error

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        if isinstance(self._opened, TaxonError):
            raise self._opened
        for row in batch.to_batches(max_chunksize=1):
            names, reasons = (row.column(name)[0].as_py() for name in ("names", "reasons"))
            pixels = np.frombuffer(row.column("content")[0].as_buffer(), np.uint8)
            readable = iter(pixels.reshape(-1, *self._task.preparation.shape))
            images = [
                next(readable) if reason is None else ImageError(name, reason)
                for name, reason in zip(names, reasons, strict=True)
            ]
            table = self._opened.rows(names, images, self._task.batch_size)
            columns = [row.column(name) for name in ("part", "piece", "last")]
            yield pa.table([*columns, pa.array([packed_table(table)], pa.large_binary())], _ROW)


def _write(batch: pa.Table, place: Place, fingerprint: str) -> pa.Table:
    """All pieces of a part -> a file."""
    part = batch.column("part")[0].as_py()
    ends = [False] * (len(batch) - 1) + [True]
    found = [batch.column(name).to_pylist() for name in ("part", "piece", "last")]
    if found != [[part] * len(batch), list(range(len(batch))), ends]:
        raise RuntimeError(f"the pieces of part {part} did not come together: {found}")
    tables = [unpacked_table(content) for content in batch.column("content")]
    errors = write_part(place, part, fingerprint, tables)
    pictures = sum(map(len, tables))
    return pa.table({"part": [part], "pictures": [pictures], "errors": [errors]})


def _large_binary(pixels: Any) -> pa.Array:
    """One value of all bytes of an array, which are not copied."""
    offsets = pa.py_buffer(np.array([0, pixels.nbytes], np.int64))
    values = pa.py_buffer(np.ascontiguousarray(pixels).reshape(-1))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, values])

"""The local engine: all cores of this machine, a process each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import pyarrow as pa

from taxon.batch.compute import Computer, Task
from taxon.batch.items import Item, prepare_item
from taxon.batch.job import OpenJob
from taxon.batch.parts import write_part
from taxon.batch.plan import pieces_of
from taxon.batch.processes import Processes
from taxon.core.cores import available_cores
from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch

# Told the pictures that were done, and how many of them have an error.
Progress = Callable[[int, int], None]
_AHEAD = 3  # pieces a process: one that it computes, others that wait for it
Piece = tuple[int, bool, list[Item]]  # the part, whether it ends with this, and the pictures


def run_locally(
    opened: OpenJob,
    task: Task,
    computer: Computer,
    *,
    processes: int,
    progress: Progress,
) -> dict[int, int]:
    """Compute the open parts of a job.

    Args:
        computer: the model, open in this process: it computes where one process is enough.
        processes: how many compute.

    Returns:
        Of each part that was computed, how many of its pictures have an error.

    Raises:
        LostProcessError: a process ended; finished parts are kept.
        OutputError: a part cannot be written.
    """
    pieces = _pieces(opened)
    if processes == 1:
        return _write(opened, _alone(pieces, computer, opened.job.batch_size), progress)
    pool = Processes(task)
    threads = ThreadPoolExecutor(processes, thread_name_prefix="taxon-batch")
    try:
        ahead = _in_order(threads, pool.compute, pieces, processes * _AHEAD)
        return _write(opened, ahead, progress)
    finally:
        # First: a thread that waits for a process would be waited for.
        pool.close()
        threads.shutdown(cancel_futures=True)


def _pieces(opened: OpenJob) -> Iterator[Piece]:
    for part in opened.open_parts:
        items = opened.plan.read(part)
        for piece in pieces_of(len(items), opened.job.piece_size):
            yield part, piece.stop == len(items), items[piece]


def _alone(
    pieces: Iterable[Piece], computer: Computer, batch_size: int
) -> Iterator[tuple[int, bool, pa.Table]]:
    """Compute in this process, while all cores decode the next piece."""
    prepare = partial(prepare_item, preparation=computer.preparation)
    threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="taxon-batch")
    try:
        ahead: deque[tuple[Piece, list[Future[ImageBatch | ImageError]]]] = deque()
        remaining = iter(pieces)
        while True:
            for piece in islice(remaining, 2 - len(ahead)):
                ahead.append((piece, [threads.submit(prepare, item) for item in piece[2]]))
            if not ahead:
                return
            (part, ends, items), prepared = ahead.popleft()
            images = [future.result() for future in prepared]
            yield part, ends, computer.rows([item.name for item in items], images, batch_size)
    finally:
        # What is still to be fetched is not waited for.
        threads.shutdown(wait=False, cancel_futures=True)


def _in_order(
    threads: ThreadPoolExecutor,
    compute: Callable[[list[Item]], pa.Table],
    pieces: Iterable[Piece],
    window: int,
) -> Iterator[tuple[int, bool, pa.Table]]:
    """Compute pieces side by side, and yield their tables in order; so many wait at most."""
    remaining = iter(pieces)
    waiting: deque[tuple[int, bool, Future[pa.Table]]] = deque()
    for part, ends, items in islice(remaining, window):
        waiting.append((part, ends, threads.submit(compute, items)))
    while waiting:
        part, ends, future = waiting.popleft()
        table = future.result()
        for next_part, next_ends, items in islice(remaining, 1):
            waiting.append((next_part, next_ends, threads.submit(compute, items)))
        yield part, ends, table


def _write(
    opened: OpenJob, tables: Iterable[tuple[int, bool, pa.Table]], progress: Progress
) -> dict[int, int]:
    errors: dict[int, int] = {}
    gathered: list[pa.Table] = []
    for part, ends, table in tables:
        gathered.append(table)
        progress(len(table), len(table) - table.column("error").null_count)
        if ends:
            errors[part] = write_part(opened.place, part, opened.job.fingerprint, gathered)
            gathered = []
    return errors

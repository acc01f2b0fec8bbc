"""Processes that make batches of views ahead, for a GPU that must not wait for pictures."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from taxon.core.errors import TaxonError
from taxon.data.loading.views import Drawn, ViewMaker

Task = list[Drawn]


class LoadingProcesses:
    """Started at the first batch, and kept until `close`.

    Where processes are not forked, each start imports torch anew: once a run is enough.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._maker: ViewMaker | None = None
        self._tasks = _Tasks()
        self._loader: DataLoader[Any] | None = None
        self._end: Callable[[], object] = _nothing

    def make(self, maker: ViewMaker, tasks: Sequence[Task]) -> Iterator[torch.Tensor]:
        """Yield each task's views, uint8 [N, 3, H, W] with channels last, in order.

        What an earlier caller left unmade is forgotten.

        Raises:
            ImageError: a picture that could be read before cannot be read now.
        """
        if maker is not self._maker or self._loader is None:
            self.close()
            self._maker, self._loader = maker, self._start(maker)
            # Called when this is forgotten, too, and at the latest when the program ends.
            self._end = weakref.finalize(self, _shut_down, self._loader)
        self._tasks.left = list(tasks)
        for made, notes in self._loader:
            if maker.cache is not None:
                for note in notes:
                    maker.cache.note(note)
            if isinstance(made, TaxonError):
                raise made
            yield made

    def close(self) -> None:
        """End the processes; a batch that is asked for later starts them again."""
        self._end()
        self._loader = self._maker = None

    def _start(self, maker: ViewMaker) -> DataLoader[Any]:
        return DataLoader(
            _Made(maker),
            batch_size=None,
            sampler=self._tasks,
            num_workers=self._count,
            persistent_workers=True,
            pin_memory=torch.cuda.is_available(),
            # Its own, or starting the processes would draw from the one that training goes by.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals,
        )


def _nothing() -> None:
    """There are no processes to end."""


def _shut_down(loader: DataLoader[Any]) -> None:
    """The public way is to forget all that refers to the processes, whenever that may happen."""
    iterator: Any = loader._iterator
    if iterator is None:
        return
    iterator._shutdown_workers()
    for process in iterator._workers:
        if process.is_alive():  # it takes no notice of SIGTERM
            process.kill()


class _Tasks(Sampler[Task]):
    """What the processes are to make next."""

    def __init__(self) -> None:
        self.left: list[Task] = []

    def __iter__(self) -> Iterator[Task]:
        return iter(self.left)

    def __len__(self) -> int:
        return len(self.left)


class _Made(Dataset[tuple[torch.Tensor | TaxonError, list[str]]]):
    """In a loading process: a task -> its batch, and what hindered the cache there."""

    def __init__(self, maker: ViewMaker) -> None:
        self._maker = maker

    def __getitem__(self, task: Task) -> tuple[torch.Tensor | TaxonError, list[str]]:
        try:
            made = stacked([self._maker.view(drawn) for drawn in task])
        except TaxonError as error:
            return error, []  # raised from here, it would reach the caller as a traceback
        return made, self._maker.cache.notes if self._maker.cache is not None else []


def stacked(views: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> torch.Tensor:
    """uint8 [H, W, 3] each -> uint8 [N, 3, H, W], channels last in memory."""
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


def _leave_signals(worker: int) -> None:
    """Stop requests reach whole groups of processes; the training process alone answers them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

"""The feature store: what the frozen blocks made of views, in memory or in files on disk."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from taxon.core.cache import cache_folder
from taxon.core.memory import available_memory
from taxon.core.processes import local_process_count
from taxon.models.cut import Tensors

_SHARE_OF_FREE = 4  # a quarter
IntArray = npt.NDArray[np.int64]


class FeatureStore:
    """Rows of tensors by (number of the view, position of the picture).

    Args:
        sample: what crosses the border for a few pictures; gives the shapes and types.
        pictures: N; positions count from 0 to N - 1.
        folder: for files; None keeps everything in memory.
    """

    def __init__(self, sample: Tensors, pictures: int, folder: Path | None) -> None:
        self._rows_of = [_Layout(tensor) for tensor in sample]
        self._pictures = pictures
        self._folder = None
        if folder is not None:
            self._folder = Path(tempfile.mkdtemp(prefix="features.", dir=folder))
        self._index: dict[int, IntArray] = {}
        self._blocks: dict[int, list[torch.Tensor]] = {}

    def __contains__(self, view: int) -> bool:
        return view in self._blocks

    def add(self, view: int, positions: IntArray) -> _Writer:
        """Make room for a view of these pictures, and return what fills it, in this order."""
        block = [
            layout.allocate(len(positions), self._file(view, number))
            for number, layout in enumerate(self._rows_of)
        ]
        index = np.full(self._pictures, -1, np.int64)
        index[positions] = np.arange(len(positions))
        return _Writer(self, view, index, block)

    def put(self, view: int, index: IntArray, block: list[torch.Tensor]) -> None:
        """Take a filled block."""
        self._index[view] = index
        self._blocks[view] = block

    def rows(self, views: IntArray, positions: IntArray) -> Tensors:
        """The tensors of these (view, picture) pairs, [M, ...] each, on the CPU."""
        made = [layout.empty(len(views)) for layout in self._rows_of]
        for view in np.unique(views):
            places = np.flatnonzero(views == view)
            rows = torch.from_numpy(self._index[int(view)][positions[places]])
            for target, source in zip(made, self._blocks[int(view)], strict=True):
                target[torch.from_numpy(places)] = source[rows]
        return tuple(
            layout.as_seen(tensor) for layout, tensor in zip(self._rows_of, made, strict=True)
        )

    def close(self) -> None:
        """Forget everything, and remove the files."""
        self._blocks.clear()
        self._index.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, view: int, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"view{view}-{number}"


class _Writer:
    """Fills the room for a view, batch by batch; the view is there once it is full."""

    def __init__(
        self, store: FeatureStore, view: int, index: IntArray, block: list[torch.Tensor]
    ) -> None:
        self._store, self._view, self._index, self._block = store, view, index, block
        self._filled = 0

    def append(self, tensors: Tensors) -> None:
        """The next rows; those that are beyond the last one are dropped."""
        end = self._filled + len(tensors[0])
        for target, tensor in zip(self._block, tensors, strict=True):
            room = target[self._filled : end]
            room.copy_(_channels_last(tensor.detach())[: len(room)])
        self._filled = end

    def finish(self) -> None:
        """All rows are there."""
        self._store.put(self._view, self._index, self._block)


class _Layout:
    """How rows of one tensor lie in memory: feature maps with their channels last."""

    def __init__(self, sample: torch.Tensor) -> None:
        row = _channels_last(sample)
        self._shape, self._type, self._maps = row.shape[1:], row.dtype, sample.ndim == 4

    @property
    def bytes(self) -> int:
        """Of one row."""
        return math.prod(self._shape) * self._type.itemsize

    def empty(self, count: int) -> torch.Tensor:
        return torch.empty((count, *self._shape), dtype=self._type)

    def allocate(self, count: int, file: Path | None) -> torch.Tensor:
        if file is None:
            return self.empty(count)
        size = count * math.prod(self._shape)
        flat = torch.from_file(str(file), shared=True, size=size, dtype=self._type)
        # The room on the disk lasts as long as the mapping: a killed run leaves nothing behind.
        with suppress(PermissionError):  # of Windows, which keeps files that are in use
            file.unlink()
        return flat.view(count, *self._shape)

    def as_seen(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.permute(0, 3, 1, 2) if self._maps else rows


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor


def choose_place(
    samples: Sequence[tuple[Tensors, int]], gigabytes: float | None
) -> tuple[bool, Path | None, str]:
    """Decide where features are kept.

    Args:
        samples: what crosses each border for a few pictures, with the number of rows to keep.
        gigabytes: the most memory; None takes a quarter of what is free.

    Returns:
        Whether they can be kept, the folder (None: memory), and where that is, in words.
    """
    needed = sum(
        count * sum(_Layout(tensor).bytes for tensor in sample) for sample, count in samples
    )
    amount = f"{needed / 1e9:.1f} GB" if needed >= 1e9 else f"{needed / 1e6:.0f} MB"
    memory = available_memory() // _SHARE_OF_FREE if gigabytes is None else int(gigabytes * 1e9)
    if needed <= memory:
        return True, None, f"in memory, {amount}"
    folder = cache_folder("features")
    # Each process that trains on this machine keeps its own.
    if needed * local_process_count() <= shutil.disk_usage(folder).free // _SHARE_OF_FREE:
        return True, folder, f"in {folder}, {amount}"
    return False, None, f"nowhere: {amount} are more than a quarter of what is free on the disk"

"""The loader: batches of uint8 pictures, decoded on all cores, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from taxon.config import AugmentConfig
from taxon.core.cores import available_cores
from taxon.core.predictions import ImageBatch
from taxon.data.augment import augment
from taxon.data.manifest import Manifest, Record
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.preprocessing.transform import to_chw

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class _Views(Dataset[Batch]):
    """Random views of the training pictures in one epoch.

    The view of a picture depends on (seed, epoch, position) alone, so it is the same whatever
    the batch size and the number of workers.
    """

    records: tuple[Record, ...]
    targets: torch.Tensor
    preprocessing: Preprocessing
    config: AugmentConfig
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> Batch:
        record = self.records[position]
        rng = np.random.default_rng([self.seed, self.epoch, position])
        image = decode(read_picture(record.path), self.preprocessing, record.id)
        view = augment(image, self.preprocessing, self.config, rng)
        return torch.from_numpy(to_chw(view)), self.targets[position]

    def __getitems__(self, positions: Sequence[int]) -> list[Batch]:
        """Called by DataLoader with a whole batch: Pillow decodes on all cores at once."""
        with ThreadPoolExecutor(available_cores()) as pool:
            return list(pool.map(self.__getitem__, positions))


def training_batches(
    manifest: Manifest,
    preprocessing: Preprocessing,
    config: AugmentConfig,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
) -> DataLoader[Batch]:
    """Batches of one epoch, in random order: uint8 [N, 3, H, W] and targets.

    Batches are of nearly equal size, and hold at least two pictures where there are two: one of
    a single picture would break batch norm.

    Args:
        workers: processes that load ahead; 0 decodes in threads of this process.
    """
    targets = torch.from_numpy(manifest.targets())
    views = _Views(manifest.records, targets, preprocessing, config, seed, epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(views))
    count = max(1, min(math.ceil(len(views) / batch_size), len(views) // 2))
    batches = [part.tolist() for part in np.array_split(order, count)]
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_batches(
    records: Sequence[Record], preprocessing: Preprocessing, *, batch_size: int
) -> Iterator[ImageBatch]:
    """Yield uint8 [N, 3, H, W] in the order of the records, through the one preprocessing.

    Raises:
        ImageError: a picture that could be read before cannot be read now.
    """

    def load(record: Record) -> ImageBatch:
        return prepare(read_picture(record.path), preprocessing, record.id)

    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(records), batch_size):
            yield np.stack(list(pool.map(load, records[start : start + batch_size])))

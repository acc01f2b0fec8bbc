"""The loader: batches of uint8 pictures, made on all cores, the same for the same seed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from taxon.core.cores import share_of_cores
from taxon.core.predictions import ImageBatch
from taxon.data.loading.decode_cache import DecodeCache, prepared_recipe
from taxon.data.loading.pixel_store import Pixels
from taxon.data.loading.processes import LoadingProcesses, stacked
from taxon.data.loading.sampling import EpochPlan
from taxon.data.loading.views import Drawn, ViewMaker
from taxon.data.manifest import Manifest, Record
from taxon.preprocessing import Preprocessing, prepare
from taxon.preprocessing.decode import read_picture

Made = TypeVar("Made")
# In EfficientNet-B7 64 pictures of its 600 pixels a side take 12 GB.
_MOST, _MOST_PIXELS = 64, 64 * 224 * 224
_BATCHES_AHEAD = 1  # made while the caller works: a GPU waits less, and a CPU loses nothing


class Batch(NamedTuple):
    """Pictures of one step.

    Attributes:
        images: uint8 [N, 3, H, W], channels last in memory.
        targets: int64 [N] (multi-class) or [N, C] of 0, 1 and -1, unknown (multi-label), where
            they are the manifest's.
        weights: float32 [N], how much each picture counts; 1 is normal.
    """

    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


class TrainingBatches:
    """The batches of one epoch: `len` of them, made while the caller works on the one before.

    A view depends on (seed, epoch, its place in the epoch) alone, or, of a bounded number, on
    (seed, number of the view, picture); so it is the same whatever the batch size and the number
    of threads and processes.
    """

    def __init__(
        self,
        maker: ViewMaker,
        plan: EpochPlan,
        epoch: int,
        batch_size: int,
        targets: torch.Tensor,
        processes: LoadingProcesses | None,
    ) -> None:
        self._maker, self._plan, self._epoch = maker, plan, epoch
        self._processes = processes
        positions = torch.from_numpy(plan.positions)
        weights = [record.weight for record in maker.records]
        self._targets = targets[positions]
        self._weights = torch.tensor(weights, dtype=torch.float32)[positions]
        self.places = split_places(len(plan), batch_size)

    def __len__(self) -> int:
        return len(self.places)

    def after(self, steps: int) -> TrainingBatches:
        """The batches that are left after so many steps."""
        return self.only(self.places[steps:])

    def only(self, places: list[range]) -> TrainingBatches:
        """Batches of these places in the epoch; the views at them stay as they are."""
        rest = copy(self)
        rest.places = places
        return rest

    def view(self, place: int) -> Pixels:
        """The view at a place in the epoch: uint8 [H, W, 3]."""
        return self._maker.view(self._drawn(place))

    def __iter__(self) -> Iterator[Batch]:
        """Make the batches, in order; threads end when the caller leaves early.

        Raises:
            ImageError: a picture that could be read before cannot be read now.
        """
        for places, images in zip(self.places, self._images(), strict=True):
            rows = slice(places.start, places.stop)
            yield Batch(images, self._targets[rows], self._weights[rows])

    def _images(self) -> Iterator[torch.Tensor]:
        if self._processes is None:
            return (stacked(views) for views in _made_ahead(self.view, self.places))
        tasks = [[self._drawn(place) for place in places] for places in self.places]
        return self._processes.make(self._maker, tasks)

    def _drawn(self, place: int) -> Drawn:
        plan = self._plan
        position = int(plan.positions[place])
        chance = (self._epoch, place) if plan.views is None else (int(plan.views[place]), position)
        return Drawn(position, bool(plan.extra[place]), chance)


def training_batches(
    manifest: Manifest,
    maker: ViewMaker,
    *,
    batch_size: int,
    epoch: int,
    plan: EpochPlan | None = None,
    targets: torch.Tensor | None = None,
    processes: LoadingProcesses | None = None,
) -> TrainingBatches:
    """Batches of random views for one epoch.

    Batches are of nearly equal size, and hold at least two pictures where there are two: one of
    a single picture would break batch norm.

    Args:
        maker: of views of the manifest's pictures.
        plan: which pictures are shown, in which order; None shows each once, in random order.
        targets: a row a picture, by its position in the manifest; None takes the manifest's.
        processes: load ahead; None makes the pictures in threads of this process.
    """
    if plan is None:
        order = np.random.default_rng([maker.seed, epoch]).permutation(len(manifest))
        plan = EpochPlan(order.astype(np.int64), np.zeros(len(manifest), dtype=np.bool_))
    targets = torch.from_numpy(manifest.targets()) if targets is None else targets
    return TrainingBatches(maker, plan, epoch, batch_size, targets, processes)


def evaluation_batches(
    records: Sequence[Record],
    preprocessing: Preprocessing,
    *,
    batch_size: int | None = None,
    cache: DecodeCache | None = None,
) -> Iterator[ImageBatch]:
    """Yield uint8 [N, 3, H, W] in the order of the records, through the one preprocessing.

    Args:
        batch_size: N; None takes `pictures_at_once`.
        cache: keeps the results, which are the same with it and without.

    Raises:
        ImageError: a picture that could be read before cannot be read now.
    """
    recipe = prepared_recipe(preprocessing)
    batch_size = batch_size or pictures_at_once(preprocessing)

    def load(place: int) -> Pixels:
        record = records[place]
        make = partial(prepare, spec=preprocessing, source=record.id)
        if cache is None:
            return make(read_picture(record.path))
        return cache.fetch(record, recipe, make)

    starts = range(0, len(records), batch_size)
    batches = [range(start, min(start + batch_size, len(records))) for start in starts]
    yield from (np.stack(made) for made in _made_ahead(load, batches))


def pictures_at_once(preprocessing: Preprocessing) -> int:
    """How many pictures go through a network together where nothing is learnt from them.

    64, but of large pictures so many as have the pixels of 64 of 224 a side.
    """
    return max(1, min(_MOST, _MOST_PIXELS // (preprocessing.height * preprocessing.width)))


def split_places(count: int, batch_size: int) -> list[range]:
    """Places 0 to count - 1 in batches of nearly equal size, of two or more where possible."""
    if not count:
        return []
    batches = max(1, min(math.ceil(count / batch_size), count // 2))
    ends = [count * batch // batches for batch in range(batches + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def _made_ahead(make: Callable[[int], Made], batches: Sequence[range]) -> Iterator[list[Made]]:
    """Yield what `make` makes of each place, batch by batch, while threads make the next batch."""
    pool = ThreadPoolExecutor(share_of_cores(), thread_name_prefix="taxon-loader")
    waiting: deque[list[Future[Made]]] = deque()
    try:
        for places in batches:
            waiting.append([pool.submit(make, place) for place in places])
            if len(waiting) > _BATCHES_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)

"""The loader: batches of uint8 pictures, made on all cores, the same for the same seed."""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from taxon.config import AugmentConfig
from taxon.core.cores import share_of_cores
from taxon.core.errors import TaxonError
from taxon.core.predictions import ImageBatch
from taxon.data.loading.augment import augment, reduced_size, side_needed
from taxon.data.loading.decode_cache import (
    DecodeCache,
    picture_size,
    prepared_recipe,
    reduced_recipe,
)
from taxon.data.loading.pixel_store import Pixels
from taxon.data.loading.rare_augmentation import RareAugmentation
from taxon.data.loading.sampling import EpochPlan
from taxon.data.manifest import Manifest, Record
from taxon.preprocessing import Preprocessing, decode, prepare
from taxon.preprocessing.decode import read_picture
from taxon.preprocessing.transform import shrink

Made = TypeVar("Made")
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


@dataclass(frozen=True)
class _Views:
    """Random views of the training pictures in one epoch.

    A view depends on (seed, epoch, its place in the epoch) alone, or, of a bounded number, on
    (seed, number of the view, picture); so it is the same whatever the batch size and the number
    of threads and processes.
    """

    records: tuple[Record, ...]
    plan: EpochPlan
    preprocessing: Preprocessing
    config: AugmentConfig
    rare: RareAugmentation | None
    cache: DecodeCache | None
    seed: int
    epoch: int

    def view(self, place: int) -> Pixels:
        """uint8 [H, W, 3]."""
        record = self.records[self.plan.positions[place]]
        rng = np.random.default_rng([self.seed, *self.drawn_by(place)])
        rare = self.rare if self.plan.extra[place] else None
        image = self.picture(record)
        return np.asarray(augment(image, self.preprocessing, self.config, rng, rare))

    def drawn_by(self, place: int) -> tuple[int, int]:
        """What else than the seed the chance in a view depends on."""
        if self.plan.views is None:
            return self.epoch, place
        return int(self.plan.views[place]), int(self.plan.positions[place])

    def picture(self, record: Record) -> Image.Image:
        """The picture that views are made of: with a cache it is reduced, kept or not."""
        make = partial(self.decode, record)
        if self.cache is None:
            return make(read_picture(record.path))
        return Image.fromarray(
            self.cache.fetch(record, self.recipe, lambda data: self.reduce(make(data)))
        )

    def decode(self, record: Record, data: bytes) -> Image.Image:
        """The whole picture, from JPEG at the scale that views need where the spec allows it."""
        side = side_needed(picture_size(record), self.preprocessing, self.config)
        return decode(data, self.preprocessing, record.id, at_least=side)

    def reduce(self, image: Image.Image) -> Pixels:
        """uint8 [H, W, 3], just large enough for all views."""
        size = reduced_size(image.size, self.preprocessing, self.config)
        return np.asarray(image if size == image.size else shrink(image, size, self.preprocessing))

    @cached_property
    def recipe(self) -> str:
        """Fingerprint of `decode` and `reduce`."""
        return reduced_recipe(self.preprocessing, self.config)


class TrainingBatches(Dataset[tuple[Batch | TaxonError, list[str]]]):
    """The batches of one epoch: `len` of them, made while the caller works on the one before."""

    def __init__(
        self,
        manifest: Manifest,
        views: _Views,
        batch_size: int,
        workers: int,
        targets: torch.Tensor | None,
    ) -> None:
        positions = torch.from_numpy(views.plan.positions)
        weights = [record.weight for record in manifest.records]
        self._views = views
        self._workers = workers
        targets = torch.from_numpy(manifest.targets()) if targets is None else targets
        self._targets = targets[positions]
        self._weights = torch.tensor(weights, dtype=torch.float32)[positions]
        self.places = split_places(len(views.plan), batch_size)

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
        return self._views.view(place)

    def __iter__(self) -> Iterator[Batch]:
        """Make the batches, in order; threads or processes end when the caller leaves early.

        Raises:
            ImageError: a picture that could be read before cannot be read now.
        """
        if self._workers:
            return self._in_processes()
        made = _made_ahead(self._views.view, self.places)
        return (self._batch(places, views) for places, views in zip(self.places, made, strict=True))

    def __getitem__(self, position: int) -> tuple[Batch | TaxonError, list[str]]:
        """A whole batch, made in a loading process, with the notes of the cache there."""
        places, cache = self.places[position], self._views.cache
        try:
            made = self._batch(places, [self._views.view(place) for place in places])
        except TaxonError as error:
            return error, []  # raised from here, it would reach the caller as a traceback
        return made, cache.notes if cache is not None else []

    def _in_processes(self) -> Iterator[Batch]:
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
            # Its own, or starting the processes would draw from the one that training goes by.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals,
        )
        for made, notes in loader:
            if self._views.cache is not None:
                for note in notes:
                    self._views.cache.note(note)
            if isinstance(made, TaxonError):
                raise made
            yield made

    def _batch(self, places: range, views: list[Pixels]) -> Batch:
        images = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
        rows = slice(places.start, places.stop)
        return Batch(images, self._targets[rows], self._weights[rows])


def training_batches(
    manifest: Manifest,
    preprocessing: Preprocessing,
    config: AugmentConfig,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    plan: EpochPlan | None = None,
    targets: torch.Tensor | None = None,
    rare_augmentation: RareAugmentation | None = None,
    cache: DecodeCache | None = None,
) -> TrainingBatches:
    """Batches of random views for one epoch.

    Batches are of nearly equal size, and hold at least two pictures where there are two: one of
    a single picture would break batch norm.

    Args:
        workers: processes that load ahead; 0 makes the pictures in threads of this process.
        plan: which pictures are shown, in which order; None shows each once, in random order.
        targets: a row a picture, by its position in the manifest; None takes the manifest's.
        rare_augmentation: what else is done to the plan's extra views.
        cache: keeps decoded pictures between epochs. With one, views are made of pictures that
            were reduced first, and differ a little from those without.
    """
    if plan is None:
        order = np.random.default_rng([seed, epoch]).permutation(len(manifest))
        plan = EpochPlan(order.astype(np.int64), np.zeros(len(manifest), dtype=np.bool_))
    views = _Views(
        manifest.records, plan, preprocessing, config, rare_augmentation, cache, seed, epoch
    )
    return TrainingBatches(manifest, views, batch_size, workers, targets)


def evaluation_batches(
    records: Sequence[Record],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    cache: DecodeCache | None = None,
) -> Iterator[ImageBatch]:
    """Yield uint8 [N, 3, H, W] in the order of the records, through the one preprocessing.

    Args:
        cache: keeps the results, which are the same with it and without.

    Raises:
        ImageError: a picture that could be read before cannot be read now.
    """
    recipe = prepared_recipe(preprocessing)

    def load(place: int) -> Pixels:
        record = records[place]
        make = partial(prepare, spec=preprocessing, source=record.id)
        if cache is None:
            return make(read_picture(record.path))
        return cache.fetch(record, recipe, make)

    starts = range(0, len(records), batch_size)
    batches = [range(start, min(start + batch_size, len(records))) for start in starts]
    yield from (np.stack(made) for made in _made_ahead(load, batches))


def split_places(count: int, batch_size: int) -> list[range]:
    """Places 0 to count - 1 in batches of nearly equal size, of two or more where possible."""
    if not count:
        return []
    batches = max(1, min(math.ceil(count / batch_size), count // 2))
    ends = [count * batch // batches for batch in range(batches + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


def _leave_signals(worker: int) -> None:
    """Stop requests reach whole groups of processes; the training process alone answers them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


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

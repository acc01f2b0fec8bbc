"""Random views of training pictures: what one picture of a batch is made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from taxon.config import AugmentConfig
from taxon.data.loading.augment import augment, reduced_size, side_needed
from taxon.data.loading.decode_cache import DecodeCache, picture_size, reduced_recipe
from taxon.data.loading.pixel_store import Pixels
from taxon.data.loading.rare_augmentation import RareAugmentation
from taxon.data.manifest import Record
from taxon.preprocessing import Preprocessing, decode
from taxon.preprocessing.decode import read_picture
from taxon.preprocessing.transform import shrink


class Drawn(NamedTuple):
    """One view to make.

    Attributes:
        position: of the picture in the manifest.
        extra: it was added for a rare class.
        chance: what else than the seed the chance in it depends on.
    """

    position: int
    extra: bool
    chance: tuple[int, int]


@dataclass(frozen=True)
class ViewMaker:
    """Makes random views of a run's training pictures; constant over its epochs.

    With a cache, views are made of pictures that were reduced first, and differ a little from
    those without.
    """

    records: tuple[Record, ...]
    preprocessing: Preprocessing
    config: AugmentConfig
    seed: int
    rare: RareAugmentation | None = None
    cache: DecodeCache | None = None

    def view(self, drawn: Drawn) -> Pixels:
        """uint8 [H, W, 3]; the same for the same seed and `drawn`.

        Raises:
            ImageError: a picture that could be read before cannot be read now.
        """
        rng = np.random.default_rng([self.seed, *drawn.chance])
        image = self._picture(self.records[drawn.position])
        rare = self.rare if drawn.extra else None
        return np.asarray(augment(image, self.preprocessing, self.config, rng, rare))

    def _picture(self, record: Record) -> Image.Image:
        """The picture that views are made of: with a cache it is reduced, kept or not."""
        make = partial(self._decode, record)
        if self.cache is None:
            return make(read_picture(record.path))
        return Image.fromarray(
            self.cache.fetch(record, self._recipe, lambda data: self._reduce(make(data)))
        )

    def _decode(self, record: Record, data: bytes) -> Image.Image:
        """The whole picture, from JPEG at the scale that views need where the spec allows it."""
        side = side_needed(picture_size(record), self.preprocessing, self.config)
        return decode(data, self.preprocessing, record.id, at_least=side)

    def _reduce(self, image: Image.Image) -> Pixels:
        """uint8 [H, W, 3], just large enough for all views."""
        size = reduced_size(image.size, self.preprocessing, self.config)
        return np.asarray(image if size == image.size else shrink(image, size, self.preprocessing))

    @cached_property
    def _recipe(self) -> str:
        """Fingerprint of `_decode` and `_reduce`."""
        return reduced_recipe(self.preprocessing, self.config)

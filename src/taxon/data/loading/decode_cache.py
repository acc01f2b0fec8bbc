"""The decode cache: pixels that an earlier epoch or run decoded, in memory or on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import PIL

from taxon.config import AugmentConfig, LoaderConfig
from taxon.core.cache import cache_folder
from taxon.core.errors import OutputError
from taxon.core.fingerprint import sha256_bytes, sha256_json
from taxon.core.memory import available_memory
from taxon.data.loading.augment import reduced_size
from taxon.data.loading.pixel_store import DiskStore, MemoryStore, Pixels, Store
from taxon.data.manifest import Record
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.decode import read_picture

FORMAT_VERSION = 2
_SHARE_OF_FREE = 4  # a quarter
_UNKNOWN = (1 << 14, 1 << 14)  # the size that a record without one is taken to have
_ROUNDING = 4  # by which a JPEG that is halved while it is decoded may come out larger


@dataclass
class DecodeCache:
    """Pixels by the content of the picture's file and all that was done to it.

    Attributes:
        store: memory or disk.
        allowed: the most bytes of each entry that may be kept: those that fit the limit.
        summary: where pictures are kept and how many, in words.
        notes: what hindered it since, in words; none twice.
    """

    store: Store
    allowed: Mapping[str, int]
    summary: str
    notes: list[str] = field(default_factory=list)

    def fetch(self, record: Record, recipe: str, make: Callable[[bytes], Pixels]) -> Pixels:
        """Return the pixels of a picture: kept ones, or those that `make` makes of its file.

        A file whose content is not what the manifest says is never kept.

        Args:
            recipe: fingerprint of what `make` does.
            make: content of the file -> uint8 pixels with three axes.

        Raises:
            ImageError: the picture is not kept and cannot be read.
        """
        key = entry_key(record, recipe)
        kept = self.store.get(key)
        if kept is not None:
            return kept
        content = read_picture(record.path)
        pixels = make(content)
        fits = pixels.nbytes <= self.allowed.get(key, 0)
        if fits and sha256_bytes(content) == record.sha256:
            self.note(self.store.put(key, pixels))
        return pixels

    def note(self, words: str | None) -> None:
        """Keep a note, unless it is known."""
        if words is not None and words not in self.notes:
            self.notes.append(words)


def entry_key(record: Record, recipe: str) -> str:
    """The name of an entry."""
    return sha256_bytes(f"{record.sha256} {recipe}".encode())


def prepared_recipe(spec: Preprocessing) -> str:
    """Fingerprint of `prepare`: pixels are uint8 [3, H, W], exactly the model's input."""
    return sha256_json([FORMAT_VERSION, PIL.__version__, "prepared", spec.fingerprint])


def reduced_recipe(spec: Preprocessing, config: AugmentConfig) -> str:
    """Fingerprint of decoding and `reduced_size`: pixels are uint8 [H, W, 3]."""
    decoding = spec.model_dump(mode="json", exclude={"mean", "std"})
    crops = [config.crop_scale, config.crop_ratio]
    return sha256_json([FORMAT_VERSION, PIL.__version__, "reduced", decoding, crops])


def open_decode_cache(
    training: Sequence[Record],
    validation: Sequence[Record],
    spec: Preprocessing,
    augment: AugmentConfig,
    config: LoaderConfig,
    *,
    workers: int = 0,
) -> DecodeCache | None:
    """Return the cache for a run, or None where it is switched off.

    `auto` takes memory where all pictures fit, else the disk, else the larger of the two for as
    many as fit. Loading processes do not share memory, so that with them it is the disk.

    Args:
        training: pictures that are shown in random views, reduced to what these need.
        validation: pictures that are shown through the one preprocessing.
        workers: loading processes.

    Raises:
        OutputError: a cache on disk was asked for, and its folder cannot be made.
    """
    if config.cache == "none":
        return None
    sizes = _planned_sizes(training, validation, spec, augment)
    given = None if config.cache_gigabytes is None else int(config.cache_gigabytes * 1e9)
    memory = given if given is not None else available_memory() // _SHARE_OF_FREE
    if config.cache == "ram" and not workers:
        return _in_memory(sizes, memory)
    try:
        store = DiskStore(cache_folder("pixels"))
    except OutputError:
        if config.cache != "auto":
            raise
        # Reduced pictures all the same: what a run sees must not depend on the room there is.
        return _in_memory(sizes, 0 if workers else memory)
    # What the cache holds already would be free without it.
    free = shutil.disk_usage(store.folder).free + store.held()
    disk = given if given is not None else free // _SHARE_OF_FREE
    if _place(config.cache, sum(sizes.values()), memory, disk, workers) == "ram":
        return _in_memory(sizes, memory)
    allowed = _that_fit(sizes, disk)
    store.claim(allowed, disk, sum(allowed.values()))
    return DecodeCache(store, allowed, _summary(f"in {store.folder}", allowed, sizes))


def _place(
    wanted: Literal["auto", "ram", "disk", "none"],
    needed: int,
    memory: int,
    disk: int,
    workers: int,
) -> Literal["ram", "disk"]:
    if wanted == "disk" or workers:
        return "disk"
    return "ram" if needed <= memory or memory >= disk else "disk"


def _in_memory(sizes: dict[str, int], limit: int) -> DecodeCache:
    allowed = _that_fit(sizes, limit)
    return DecodeCache(MemoryStore(), allowed, _summary("in memory", allowed, sizes))


def _that_fit(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """The first entries, as many as fit the limit."""
    ends = np.cumsum(list(sizes.values()), dtype=np.int64)
    return {key: sizes[key] for key, end in zip(sizes, ends, strict=True) if end <= limit}


def _planned_sizes(
    training: Sequence[Record],
    validation: Sequence[Record],
    spec: Preprocessing,
    augment: AugmentConfig,
) -> dict[str, int]:
    """The most bytes of each entry, by key."""
    prepared, reduced = prepared_recipe(spec), reduced_recipe(spec, augment)
    sizes = {entry_key(record, prepared): 3 * spec.height * spec.width for record in validation}
    for record in training:
        width, height = reduced_size(picture_size(record), spec, augment)
        sizes[entry_key(record, reduced)] = 3 * (width + _ROUNDING) * (height + _ROUNDING)
    return sizes


def picture_size(record: Record) -> tuple[int, int]:
    """The (width, height) of a picture; a very large one where it is not known."""
    return (record.width, record.height) if record.width and record.height else _UNKNOWN


def _summary(place: str, allowed: dict[str, int], sizes: dict[str, int]) -> str:
    amount = sum(allowed.values()) / 1e6
    unit = f"{amount / 1e3:.1f} GB" if amount >= 1000 else f"{amount:.0f} MB"
    part = "" if len(allowed) == len(sizes) else f" {len(allowed)} of {len(sizes)}, what fits,"
    return f"decoded pictures are kept {place}:{part} up to {unit}"

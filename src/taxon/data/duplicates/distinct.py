"""Out of pictures in an order, those that look like none before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taxon.core.predictions import FloatArray
from taxon.data.duplicates.hamming import count_bits
from taxon.data.duplicates.near_duplicates import Matching
from taxon.data.duplicates.perceptual import SIDE, profiles_of_thumbnails
from taxon.data.look import Look


def distinct(
    looks: Sequence[Look], features: FloatArray | None = None, *, matching: Matching | None = None
) -> list[int]:
    """Return the positions of pictures that are no near-duplicate of one that was kept before.

    Pairs count as the near-duplicate search counts them; here each is compared with every other
    one, so this is for some thousands.

    Args:
        looks: N, in the order in which they are wanted.
        features: float32 [N, F], without the mean of the data that they are of.
    """
    matching = matching or Matching()
    hashes = np.array([look.hash for look in looks], np.uint64)
    thumbnails = np.frombuffer(b"".join(look.thumbnail for look in looks), np.uint8)
    profiles = profiles_of_thumbnails(thumbnails.reshape(-1, SIDE * SIDE)).values.astype(np.float32)
    unit = None
    if features is not None:
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        unit = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    kept: list[int] = []
    contents: set[str] = set()
    for place, look in enumerate(looks):
        before = np.array(kept, np.int64)
        alike = profiles[before] @ profiles[place]
        bits = count_bits(hashes[before] ^ hashes[place])
        same = (bits <= matching.max_distance) & (alike >= matching.correlation)
        if unit is not None:
            cosines = unit[before] @ unit[place]
            for cosine, correlation in matching.by_features:
                same |= (cosines >= cosine) & (alike >= correlation)
        if look.sha256 not in contents and not same.any():
            kept.append(place)
            contents.add(look.sha256)
    return kept

"""Mirrored and turned copies: what augmentation leaves behind in many published data sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from taxon.data.duplicates.hamming import HammingSearch
from taxon.data.duplicates.linking import Integers, Links
from taxon.data.duplicates.perceptual import (
    SIDE,
    Profiles,
    correlations,
    hashes_of_thumbnails,
    profiles_of_thumbnails,
)

# Six more searches, each of twice as many hashes.
MAX_PICTURES = 100_000
_MAX_VERIFIED = 50_000_000  # candidates of one orientation

_PIXELS = np.arange(SIDE**2).reshape(SIDE, SIDE)
# All ways to mirror and turn a square; the other quarter turn gives the same pairs.
_ORIENTATIONS = (
    np.fliplr(_PIXELS),
    np.flipud(_PIXELS),
    np.rot90(_PIXELS, 2),
    _PIXELS.T,
    np.rot90(_PIXELS, 2).T,
    np.rot90(_PIXELS),
)


def turned_links(
    hashes: npt.NDArray[np.uint64],
    thumbnails: npt.NDArray[np.uint8],
    positions: Integers,
    profiles: Profiles,
    *,
    max_distance: int,
    correlation: float,
) -> Iterator[Links]:
    """Yield pairs of which one looks like the other mirrored or turned by quarters.

    Args:
        hashes: uint64 [N].
        thumbnails: uint8 [N, 256].
        positions: int64 [K], the pictures to compare, at most `MAX_PICTURES`.
        profiles: of all thumbnails.
        max_distance, correlation: as for pictures that stand upright.
    """
    count = len(positions)
    for orientation in _ORIENTATIONS:
        turned = thumbnails[positions][:, orientation.ravel()]
        turned_profiles = profiles_of_thumbnails(turned)
        both = np.concatenate([hashes[positions], hashes_of_thumbnails(turned)])
        candidates = 0
        for chunk in HammingSearch(both, max_distance).chunks():
            upright = np.minimum(chunk.left, chunk.right)
            other = np.maximum(chunk.left, chunk.right) - count
            # A picture that is symmetric looks like itself.
            across = (upright < count) & (other >= 0) & (upright != other)
            upright, other = upright[across], other[across]
            strengths = correlations(profiles, positions[upright], turned_profiles, other)
            alike = strengths >= correlation
            yield Links(positions[upright[alike]], positions[other[alike]], strengths[alike])
            candidates += len(upright)
            if candidates > _MAX_VERIFIED:
                break

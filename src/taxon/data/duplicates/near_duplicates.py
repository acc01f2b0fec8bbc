"""Near-duplicates: groups of pictures that show the same thing, for splits that do not leak.

Candidates come from the search of near hashes and, where features of a backbone are at hand,
from pictures with near features. Each pair is verified by its thumbnails before it counts:
joining too much makes a split coarse, joining too little lets it leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.core.errors import DataError
from taxon.data.duplicates.hamming import HammingSearch
from taxon.data.duplicates.linking import Integers, Linked, Linker, Links
from taxon.data.duplicates.perceptual import (
    SIDE,
    Profiles,
    correlations,
    hash_of_thumbnail,
    hashes_of_thumbnails,
    perceptual_hash,
    profiles_of_thumbnails,
    thumbnail,
)
from taxon.data.duplicates.turned import MAX_PICTURES as MAX_PICTURES_TURNED
from taxon.data.duplicates.turned import turned_links

__all__ = [
    "Matching",
    "NearDuplicates",
    "hash_of_thumbnail",
    "hashes_of_thumbnails",
    "near_duplicate_groups",
    "perceptual_hash",
    "thumbnail",
]

# Every picture is compared with every other one: 100,000 with 1024 features take minutes.
MAX_PICTURES_WITH_FEATURES = 100_000
_BLOCK = 8_000_000  # similarities at a time: 32 MB
_COLLAPSE_ROUNDS = 4
_MAX_VERIFIED = 200_000_000  # candidates of near hashes; some minutes

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Matching:
    """When two pictures count as near-duplicates. The defaults were chosen on photos and on
    pictures of surfaces under several exposures.

    Attributes:
        max_distance: bits in which the hashes of candidates may differ.
        correlation: of the thumbnails' details, at least.
        by_features: pairs of (cosine, correlation): a pair whose features are as near as the
            cosine, taken from their mean over the data set, needs that correlation of the
            thumbnails alone. Near features find other crops, logos, a moved camera.
    """

    max_distance: int = 10
    correlation: float = 0.9
    by_features: tuple[tuple[float, float], ...] = ((0.5, 0.92), (0.9, 0.5))


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of near-duplicates, as positions in what was given.

    Attributes:
        groups: two or more positions each, ascending, in the order of their first ones.
        similarities: of each group, the similarity (thumbnails or features) of its weakest
            link, 0 to 1.
        plain: positions of pictures without any structure (one colour), which are in no group.
        notes: what was given up, in plain sentences; empty when the search was exact.
    """

    groups: tuple[tuple[int, ...], ...]
    similarities: tuple[float, ...]
    plain: tuple[int, ...]
    notes: tuple[str, ...]


def near_duplicate_groups(
    hashes: npt.NDArray[np.uint64],
    thumbnails: npt.NDArray[np.uint8],
    *,
    features: Features | None = None,
    matching: Matching | None = None,
) -> NearDuplicates:
    """Group pictures that look the same.

    Pairs are linked to groups (single linkage). A group of more than a tenth of the pictures
    (and more than 20) is a chain, not a picture: its links must be ever stronger until it falls
    into smaller ones, and one that is still larger than a third is dissolved and noted.

    Args:
        hashes: uint64 [N], of `perceptual_hash`.
        thumbnails: uint8 [N, 256], of `thumbnail`.
        features: float32 [N, F] of any backbone, pooled; finds more: other crops, logos.
        matching: the thresholds.

    Raises:
        DataError: arrays of different lengths, of another shape, or features that are not
            finite.
    """
    matching = matching or Matching()
    thumbnails = _checked(hashes, thumbnails, features)
    profiles = profiles_of_thumbnails(thumbnails)
    usable = np.flatnonzero(profiles.structured)
    linker = Linker(len(hashes))
    remaining = _collapse(hashes, usable, profiles, matching, linker)
    notes = _link_by_hash(hashes, remaining, profiles, matching, linker)
    if len(remaining) > MAX_PICTURES_TURNED:
        notes.append(
            "near-duplicates: mirrored and turned copies are looked for among up to "
            f"{MAX_PICTURES_TURNED:,} pictures, not among {len(remaining):,}"
        )
    else:
        links_of_turned = turned_links(
            hashes,
            thumbnails,
            remaining,
            profiles,
            max_distance=matching.max_distance,
            correlation=matching.correlation,
        )
        for links in links_of_turned:
            linker.add(links)
    if features is not None and len(hashes) > MAX_PICTURES_WITH_FEATURES:
        notes.append(
            f"near-duplicates: features are compared for up to {MAX_PICTURES_WITH_FEATURES:,} "
            f"pictures; with {len(hashes):,} hashes and thumbnails decided alone"
        )
    elif features is not None:
        for links in _feature_links(features, usable, profiles, matching):
            linker.add(links)
    linked = linker.groups()
    return NearDuplicates(
        linked.groups,
        linked.strengths,
        tuple(np.flatnonzero(~profiles.structured).tolist()),
        (*notes, *_linking_notes(linked)),
    )


def _checked(
    hashes: npt.NDArray[np.uint64], thumbnails: npt.NDArray[np.uint8], features: Features | None
) -> npt.NDArray[np.uint8]:
    count = len(hashes)
    if thumbnails.size != count * SIDE**2:
        raise DataError(
            f"{count} hashes need thumbnails of shape [{count}, {SIDE**2}]; "
            f"received {list(thumbnails.shape)}"
        )
    if features is not None and (features.ndim != 2 or len(features) != count):
        raise DataError(
            f"{count} hashes need features of shape [{count}, F]; received {list(features.shape)}"
        )
    if features is not None and not np.isfinite(features).all():
        raise DataError("features must be finite; some are NaN or infinite")
    return thumbnails.reshape(count, SIDE**2)


def _link_by_hash(
    hashes: npt.NDArray[np.uint64],
    remaining: Integers,
    profiles: Profiles,
    matching: Matching,
    linker: Linker,
) -> list[str]:
    """Link verified pairs of near hashes; return what was given up."""
    search = HammingSearch(hashes[remaining], matching.max_distance)
    incomplete = int(search.incomplete.sum())
    candidates = 0
    for chunk in search.chunks():
        left, right = remaining[chunk.left], remaining[chunk.right]
        linker.add(_verified(left, right, profiles, matching.correlation))
        candidates += len(left)
        if candidates > _MAX_VERIFIED:
            incomplete = len(remaining)
            break
    if not incomplete:
        return []
    return [
        f"near-duplicates: the hashes of {incomplete:,} of {len(hashes):,} pictures are too much "
        "alike to compare each with all that are near; some near-duplicates among them may be "
        "missed"
    ]


def _collapse(
    hashes: npt.NDArray[np.uint64],
    usable: Integers,
    profiles: Profiles,
    matching: Matching,
    linker: Linker,
) -> Integers:
    """Link pictures of equal hash with the first of them, and return the positions that are
    still to be searched: thousands of copies would otherwise be compared each with each."""
    searched = []
    waiting = usable
    for _ in range(_COLLAPSE_ROUNDS):
        _, first, inverse = np.unique(hashes[waiting], return_index=True, return_inverse=True)
        leaders = waiting[first]
        searched.append(leaders)
        follows = leaders[inverse] != waiting
        links = _verified(
            leaders[inverse][follows], waiting[follows], profiles, matching.correlation
        )
        linker.add(links)
        # Equal hashes of pictures that differ: these are led by the first among themselves.
        waiting = np.setdiff1d(waiting[follows], links.right)
    return np.sort(np.concatenate([*searched, waiting]))


def _feature_links(
    features: Features, usable: Integers, profiles: Profiles, matching: Matching
) -> Iterator[Links]:
    """Yield pairs of near features that their thumbnails verify."""
    # Pictures of one kind of thing have features of nearly one direction: what sets a picture
    # apart shows when their mean is taken off.
    centred = features[usable].astype(np.float32)
    centred -= centred.mean(axis=0) if len(usable) else 0
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    least = min(cosine for cosine, _ in matching.by_features)
    rows = max(1, _BLOCK // max(1, len(usable)))
    for start in range(0, len(usable), rows):
        cosines = centred[start : start + rows] @ centred[start:].T
        row, column = np.nonzero(cosines >= least)
        row, column = row[column > row], column[column > row]
        cosine = cosines[row, column]
        left, right = usable[start + row], usable[start + column]
        links = _verified(left, right, profiles, -1)
        kept = np.zeros(len(cosine), bool)
        for near, alike in matching.by_features:
            kept |= (cosine >= near) & (links.strengths >= alike)
        # What decided says how strong the link is.
        strengths = np.maximum(links.strengths, cosine)
        yield Links(left[kept], right[kept], strengths[kept])


def _verified(left: Integers, right: Integers, profiles: Profiles, least: float) -> Links:
    """Return the pairs whose thumbnails correlate by at least `least`."""
    strengths = correlations(profiles, left, profiles, right)
    kept = strengths >= least
    return Links(left[kept], right[kept], strengths[kept])


def _linking_notes(linked: Linked) -> list[str]:
    notes = []
    if linked.tightened:
        sizes = ", ".join(f"{size:,}" for size in linked.tightened[:3])
        notes.append(
            f"near-duplicates: chains of {sizes} pictures were cut into groups that are more "
            "alike; larger groups would ruin a split"
        )
    if len(linked.dissolved):
        notes.append(
            f"near-duplicates: {len(linked.dissolved):,} pictures are alike in a crowd that is too "
            "large for a group, and are in none; name their groups in a column if they belong "
            "together"
        )
    return notes

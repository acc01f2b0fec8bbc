"""What a picture looks like in few bytes: a thumbnail, a 64-bit hash of it, and its profile.

Hash and profile come from the thumbnail by a matrix product. That of the hash is of whole
numbers, so that a hash is the same on every machine and in a batch of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
PROFILE_SIDE = SIDE - 2
_SIGMA = 1.5
_LUMA = (0.299, 0.587, 0.114)
# Below this root mean square, in grey levels, a profile is made of rounding and noise.
_LEAST_STRUCTURE = 0.7
_ROWS = 65536  # thumbnails at a time: 130 MB
_PAIRS = 100_000  # pairs at a time: 160 MB

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """What verifies that two pictures are alike.

    Attributes:
        values: float16 [N, 196]; the scalar product of two rows is their correlation, -1 to 1.
        structured: bool [N]; False for (nearly) constant pictures, which look like any other.
    """

    values: npt.NDArray[np.float16]
    structured: npt.NDArray[np.bool_]


def thumbnail(image: Image.Image) -> bytes:
    """RGB or grey picture -> 16x16 grey levels, 256 bytes, row by row.

    The picture is squashed to the square, so that a copy of another shape has the same one.
    """
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small.convert("L").tobytes()


def perceptual_hash(image: Image.Image) -> int:
    """RGB or grey picture -> 64-bit hash; pictures that look alike differ in few bits."""
    return hash_of_thumbnail(thumbnail(image))


def hash_of_thumbnail(levels: bytes) -> int:
    """The hash of the picture with this thumbnail, for those who have it already."""
    return int(hashes_of_thumbnails(np.frombuffer(levels, np.uint8)[None])[0])


def hashes_of_thumbnails(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Thumbnails, uint8 [N, 256] -> hashes, uint64 [N].

    The 64 lowest frequencies of a cosine transform, each above or below their median (pHash,
    Zauner 2010), of the thumbnail without its border: a slightly different crop changes the
    border most.
    """
    hashes = np.empty(len(thumbnails), np.uint64)
    for start in range(0, len(thumbnails), _ROWS):
        rows = slice(start, start + _ROWS)
        frequencies = thumbnails[rows].astype(np.float64) @ _COSINES
        bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
        hashes[rows] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return hashes


def profiles_of_thumbnails(thumbnails: npt.NDArray[np.uint8]) -> Profiles:
    """Thumbnails, uint8 [N, 256] -> profiles.

    A profile is the thumbnail without its slow changes of brightness, without its border, with
    mean 0 and length 1: exposure, contrast and vignetting hardly change it.
    """
    values = np.zeros((len(thumbnails), PROFILE_SIDE**2), np.float16)
    structured = np.zeros(len(thumbnails), bool)
    for start in range(0, len(thumbnails), _ROWS):
        rows = slice(start, start + _ROWS)
        details = thumbnails[rows].astype(np.float32) @ _HIGH_PASS
        lengths = np.linalg.norm(details, axis=1, keepdims=True)
        structured[rows] = lengths[:, 0] >= _LEAST_STRUCTURE * PROFILE_SIDE
        np.divide(details, lengths, out=details, where=lengths > 0)
        values[rows] = np.where(structured[rows, None], details, 0)
    return Profiles(values, structured)


def correlations(
    first: Profiles,
    left: npt.NDArray[np.int64],
    second: Profiles,
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """How alike the pictures of each pair are, -1 to 1: float32 [P].

    Args:
        left: int64 [P], rows of `first`.
        right: int64 [P], rows of `second`.
    """
    result = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        result[part] = np.einsum(
            "nd,nd->n",
            first.values[left[part]].astype(np.float32),
            second.values[right[part]].astype(np.float32),
        )
    # Half-precision profiles: a picture's correlation with its copy may come out above 1.
    return np.clip(result, -1, 1)


def _without_border() -> Floats:
    """float64 [256, 196]: picks the pixels that do not touch the border."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[1:-1, 1:-1] = True
    return np.eye(SIDE**2)[:, inside.ravel()]


def _cosines() -> Floats:
    """float64 [256, 64], whole numbers: thumbnail -> its lowest frequencies without the mean."""
    steps = np.arange(PROFILE_SIDE)
    waves = np.cos(np.pi / PROFILE_SIDE * (steps[:, None] + 0.5) * steps)  # pixel, frequency
    waves[:, 0] *= np.sqrt(0.5)
    rows, columns = np.divmod(np.arange(PROFILE_SIDE**2), PROFILE_SIDE)
    lowest = np.lexsort((rows, rows + columns))[1:65]
    # The search compares bands of 16 bits: each gets low and high frequencies alike.
    lowest = lowest.reshape(16, 4).T.ravel()
    transform = np.kron(waves, waves)[:, lowest]
    return np.rint(4096 * (_without_border() @ transform))


def _high_pass() -> npt.NDArray[np.float32]:
    """float32 [256, 196]: thumbnail -> details with mean 0."""
    distance = np.arange(SIDE)
    blur = np.zeros((SIDE, SIDE))
    for mirrored in (distance, -1 - distance, 2 * SIDE - 1 - distance):
        blur += np.exp(-0.5 * ((distance[:, None] - mirrored) / _SIGMA) ** 2)
    blur /= blur.sum(axis=1, keepdims=True)
    details = (np.eye(SIDE**2) - np.kron(blur, blur)).T @ _without_border()
    centred: npt.NDArray[np.float32] = (details - details.mean(axis=1, keepdims=True)).astype(
        np.float32
    )
    return centred


_COSINES = _cosines()
_HIGH_PASS = _high_pass()

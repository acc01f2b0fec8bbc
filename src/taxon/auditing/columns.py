"""Simple columns: what is known of a picture without looking at what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.auditing.wording import kilobytes
from taxon.data.look import Look

Floats = npt.NDArray[np.float64]
MOST_KINDS = 20


@dataclass(frozen=True)
class Family:
    """Columns that tell one thing of a picture.

    Attributes:
        words: what they tell, for a sentence.
        columns: looks -> float64 [N, K].
        describe: the value of one picture, for people.
    """

    words: str
    columns: Callable[[Sequence[Look]], Floats]
    describe: Callable[[Look], str]


def file_size(looks: Sequence[Look]) -> Floats:
    """Logarithms of the file's size and of its bytes a pixel (how hard it is compressed)."""
    sizes = np.array([max(look.file_size, 1) for look in looks], np.float64)
    pixels = np.array([look.width * look.height for look in looks], np.float64)
    return np.log(np.stack([sizes, sizes / np.maximum(pixels, 1)], axis=1))


def resolution(looks: Sequence[Look]) -> Floats:
    """Logarithms of width, height and their ratio."""
    sizes = np.array([(max(look.width, 1), max(look.height, 1)) for look in looks], np.float64)
    logarithms = np.log(sizes)
    return np.column_stack([logarithms, logarithms[:, 0] - logarithms[:, 1]])


def file_format(looks: Sequence[Look]) -> Floats:
    """Indicators of the file's format and kind of pixels."""
    return _indicators([f"{look.format} {look.mode}" for look in looks])


def camera(looks: Sequence[Look]) -> Floats:
    """Indicators of the camera; none is a kind of its own."""
    return _indicators([look.camera or "" for look in looks])


def border_colour(looks: Sequence[Look]) -> Floats:
    """Red, green and blue of the border."""
    return np.array([look.border_colour for look in looks], np.float64)


def mean_colour(looks: Sequence[Look]) -> Floats:
    """Red, green and blue of the whole picture, its brightness and contrast."""
    return np.array(
        [(*look.mean_colour, look.brightness, look.contrast) for look in looks], np.float64
    )


def _indicators(values: Sequence[str]) -> Floats:
    common = [value for value, _ in Counter(values).most_common(MOST_KINDS)]
    return np.array([[value == kind for kind in common] for value in values], np.float64)


def _rgb(colour: tuple[float, float, float]) -> str:
    return "RGB " + " ".join(str(round(255 * value)) for value in colour)


FAMILIES: dict[str, Family] = {
    "file_size": Family(
        "the size of the file",
        file_size,
        lambda look: kilobytes(look.file_size),
    ),
    "resolution": Family(
        "width and height", resolution, lambda look: f"{look.width}x{look.height}"
    ),
    "format": Family(
        "the file's format and kind of pixels",
        file_format,
        lambda look: f"{look.format}, {look.mode}",
    ),
    "camera": Family("the camera that EXIF names", camera, lambda look: look.camera or "no camera"),
    "border_colour": Family(
        "the colour of the border", border_colour, lambda look: _rgb(look.border_colour)
    ),
    "mean_colour": Family("the mean colour", mean_colour, lambda look: _rgb(look.mean_colour)),
}

# What a drift is described by: name, value, how it is written.
SIMPLE: dict[str, tuple[Callable[[Look], float], Callable[[float], str]]] = {
    "brightness": (lambda look: look.brightness, "{:.2f}".format),
    "contrast": (lambda look: look.contrast, "{:.2f}".format),
    "sharpness": (lambda look: look.sharpness, "{:.0f}".format),
    "width": (lambda look: look.width, "{:.0f} px".format),
    "height": (lambda look: look.height, "{:.0f} px".format),
    "aspect ratio": (lambda look: look.width / max(look.height, 1), "{:.2f}".format),
    "file size": (lambda look: look.file_size, kilobytes),
    "red": (lambda look: look.mean_colour[0], "{:.2f}".format),
    "green": (lambda look: look.mean_colour[1], "{:.2f}".format),
    "blue": (lambda look: look.mean_colour[2], "{:.2f}".format),
}

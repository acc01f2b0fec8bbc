"""Explained pictures: the picture as the model sees it, grey, with the heat in colour."""

from __future__ import annotations

import io
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from taxon.core.errors import ImageError
from taxon.core.predictions import FloatArray, ImageBatch
from taxon.evaluation.explain.method import Method, in_words

SECONDS = 60.0  # after which no further picture is begun
SLOW = 15.0  # from which the time is said
SIDE = 128
# From low to high heat; told apart in every kind of colour vision, and by lightness alone.
_COLOURS = np.array([[70, 20, 110], [190, 40, 100], [245, 125, 20], [252, 255, 165]], np.float32)
_COLD = 0.03  # below is what scaling leaves around a spot
_STRONGEST = 0.8  # the colour's share where the heat is highest

Asked = tuple[str, int]


@dataclass(frozen=True)
class Explained:
    """A picture with its heat.

    Attributes:
        image: a data URI of a JPEG of at most 128 pixels a side.
        words: what was found, or empty.
    """

    image: str
    words: str


class Explainer:
    """Explains answers, one picture after the other, for at most a minute.

    Args:
        method: how.
        load: id -> the picture as the model sees it, uint8 [3, H, W]; may raise ImageError.
        fallback: how, where `method` fails.

    Attributes:
        method: the one that was used last.
        notes: plain sentences on what failed, took long or was cut short.
    """

    def __init__(
        self,
        method: Method,
        load: Callable[[str], ImageBatch],
        fallback: Method | None = None,
    ) -> None:
        self.method = method
        self.notes: list[str] = []
        self._load = load
        self._methods = (method,) if fallback is None else (method, fallback)

    def __call__(self, asked: Sequence[Asked]) -> dict[Asked, Explained]:
        """Explain these (id, position of the class); what cannot be read is left out.

        Where the method fails, all are explained by the fallback; where that fails too, none is.
        """
        begun = time.monotonic()
        for method in self._methods:
            self.method = method
            try:
                return self._explain(asked, begun)
            except Exception as error:  # any kind, out of memory too; the figures are there already
                last = method is self._methods[-1]
                instead = "not explained" if last else f"explained by {self._methods[-1].name}"
                failed = f"{method.name} failed ({in_words(error)})"
                self.notes.append(f"answers are {instead}, for {failed}")
        return {}

    def _explain(self, asked: Sequence[Asked], begun: float) -> dict[Asked, Explained]:
        done: dict[Asked, Explained] = {}
        for place, (name, column) in enumerate(asked):
            spent = time.monotonic() - begun
            if spent > SECONDS:
                self.notes.append(
                    f"explanations ({self.method.name}): {place} of {len(asked)} pictures, for "
                    f"they take long ({spent:.0f} s); --no-explain leaves them out"
                )
                return done
            try:
                image = self._load(name)
            except ImageError:
                continue  # a report with one picture less is better than no report
            heat = self.method.heat(image, column)
            done[name, column] = Explained(_jpeg(overlay(image, heat.map)), heat.words)
        spent = time.monotonic() - begun
        if spent > SLOW:
            self.notes.append(
                f"explanations ({self.method.name}) of {len(done)} pictures took {spent:.0f} s; "
                "--no-explain leaves them out"
            )
        return done


def overlay(image: ImageBatch, heat: FloatArray) -> Image.Image:
    """Draw heat over a picture: grey where there is none, then violet, orange and pale yellow.

    Args:
        image: uint8 [3, H, W].
        heat: float32 [h, w], 0 to 1; scaled to the picture.
    """
    height, width = image.shape[1:]
    scaled = Image.fromarray(heat.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    level = np.clip((np.asarray(scaled) - _COLD) / (1 - _COLD), 0, 1)
    grey = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"), np.float32)
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(level, steps, _COLOURS[:, at]) for at in range(3)], axis=-1)
    share = (_STRONGEST * np.sqrt(level))[..., None]
    mixed = (1 - share) * grey[..., None] + share * colour
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _jpeg(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + b64encode(stream.getvalue()).decode("ascii")

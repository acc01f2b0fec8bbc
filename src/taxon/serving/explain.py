"""An explanation by occlusion, computed as any other pictures: in batches, behind the queue."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from taxon.core.predictions import FloatArray, ImageBatch
from taxon.inference.occlusion import BATCH, covered_pictures, heat_of
from taxon.preprocessing import decode
from taxon.preprocessing.frames import prepare_frame
from taxon.preprocessing.transform import Box, resize, seen_box, to_chw
from taxon.serving.computing.engine import Upload
from taxon.serving.models.served import Served

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class Explanation(BaseModel):
    """Where in a picture a class comes from, by occlusion.

    `heat` has rows from top to bottom, 0 to 1, over `box`: left, top, right and bottom of what the
    model sees, as shares of the upright picture (beyond 0 to 1 where it was padded).
    """

    label: str
    probability: float
    heat: list[list[float]]
    box: tuple[float, float, float, float]
    words: str


async def explain_answer(
    served: Served, picture: Upload, label: str | None, deadline: float, most: int
) -> Explanation:
    """Explain the answer for a picture that can be read, or what speaks for a class in it.

    Args:
        label: one of the model's classes; None: the most probable one.
        most: pictures that may be computed at once.

    Raises:
        Overloaded, DeadlinePassed, ComputationFailed: as for any picture.
    """
    names = served.spec.label_space.names
    image, box = await asyncio.to_thread(_prepare, served, picture)
    covered = covered_pictures(image)
    probabilities: list[FloatArray] = []
    size = min(BATCH, most)
    for start in range(0, len(covered), size):  # a few at a time: others get their turn between
        answers = await served.engine.compute(covered[start : start + size], deadline)
        probabilities += [answer.row.probabilities for answer in answers]
    column = int(probabilities[0].argmax()) if label is None else names.index(label)
    found = heat_of([float(row[column]) for row in probabilities])
    return Explanation(
        label=names[column],
        probability=float(probabilities[0][column]),
        heat=found.map.tolist(),
        box=box,
        words=found.words,
    )


def _prepare(served: Served, picture: Upload) -> tuple[ImageBatch, Box]:
    """The picture as the model takes it, and what part of the upright picture that is."""
    spec, frame = served.spec.preprocessing, served.engine.description.frame
    if frame is not None:
        return prepare_frame(picture.data, spec, frame, picture.name), WHOLE
    image = decode(picture.data, spec, picture.name)
    return to_chw(resize(image, spec)), seen_box(image.size, spec)

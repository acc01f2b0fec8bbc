"""The reference of a model: what pictures and answers looked like when it was made."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np

from taxon.bundle.reference import Reference, histogram, write_reference
from taxon.data import Manifest, Record
from taxon.inference import load_predictor
from taxon.preprocessing.statistics import NAMES, picture_statistics

PICTURES = 1000  # a tenth of them in each bin


def write_calibration_reference(folder: Path, manifest: Manifest) -> None:
    """Have the model folder's ONNX artefact answer its calibration pictures; write reference.json.

    The server compares what comes with it (`taxon.serving.models.drift`). Of many pictures a
    thousand are drawn. Nothing is written where no picture was held out.
    """
    from taxon.api.deciding import calibration_part
    from taxon.data.loading.loader import evaluation_batches

    part = calibration_part(manifest)
    if not len(part):
        return
    predictor = load_predictor(folder, backend="onnx")
    records = _drawn(part.records)
    named: Counter[str] = Counter()
    confidences: list[float] = []
    statistics = []
    for images in evaluation_batches(records, predictor.spec.preprocessing):
        for image, (row, scope) in zip(images, predictor.run_rows(images), strict=True):
            prediction = predictor.decide("", row, scope=scope)
            named.update(prediction.labels)
            if prediction.confidence is not None:
                confidences.append(prediction.confidence)
            statistics.append(picture_statistics(image))
    columns = np.array(statistics).T
    reference = Reference(
        part=part.records[0].split or "",
        pictures=len(records),
        classes={name: named[name] for name in predictor.spec.label_space.names},
        confidence=histogram(confidences),
        pixels={
            name: histogram(values.tolist()) for name, values in zip(NAMES, columns, strict=True)
        },
    )
    write_reference(folder, reference)


def _drawn(records: tuple[Record, ...]) -> list[Record]:
    """A thousand of them at most, the same ones each time whatever their names."""
    if len(records) <= PICTURES:
        return list(records)
    return random.Random(0).sample(sorted(records, key=lambda each: each.sha256), PICTURES)

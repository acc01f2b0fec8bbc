"""What people write for many pictures: a plain loop, and a naive script on Ray Data."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

from taxon.bundle import read_bundle
from taxon.preprocessing import prepare

BATCH = 32


def plain_loop(run: Path, pictures: Path) -> float:
    """Decode, stack, run, one batch after the other; with our preprocessing and graph.

    Returns:
        Seconds from the first picture on.
    """
    spec = read_bundle(run).spec
    session = onnxruntime.InferenceSession(str(run / "artefacts/onnx/model.onnx"))
    files = sorted(pictures.glob("*.jpg"))
    started = time.perf_counter()
    labels, confidences = [], []
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        images = np.stack([prepare(file.read_bytes(), spec.preprocessing) for file in batch])
        (probabilities,) = session.run(["probabilities"], {"images": images})
        named = probabilities.argmax(axis=1)
        labels += [spec.label_space.names[each] for each in named]
        confidences += probabilities.max(axis=1).tolist()
    table = {"path": list(map(str, files)), "label": labels, "confidence": confidences}
    pq.write_table(pa.table(table), pictures.with_suffix(".plain.parquet"))
    return time.perf_counter() - started


def naive_ray(run: Path, pictures: Path) -> float:
    """`read_images`, one map, one pool of actors, `write_parquet`, as tutorials have it.

    Returns:
        Seconds without the start of Ray.
    """
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    spec = read_bundle(run).spec
    side, fraction = spec.preprocessing.height, spec.preprocessing.crop_fraction
    names = np.array(spec.label_space.names)
    out = pictures.with_suffix(".naive")
    shutil.rmtree(out, ignore_errors=True)

    def preprocess(row: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        image = Image.fromarray(row["image"])
        scale = side / fraction / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        return {"path": row["path"], "image": np.asarray(image).transpose(2, 0, 1)}

    class Model:
        def __init__(self) -> None:
            self.session = onnxruntime.InferenceSession(str(run / "artefacts/onnx/model.onnx"))

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            (probabilities,) = self.session.run(["probabilities"], {"images": batch["image"]})
            return {
                "path": batch["path"],
                "label": names[probabilities.argmax(axis=1)],
                "confidence": probabilities.max(axis=1),
            }

    started = time.perf_counter()
    (
        ray.data.read_images(str(pictures), mode="RGB", include_paths=True)
        .map(preprocess)
        .map_batches(Model, concurrency=1, batch_size=BATCH)
        .write_parquet(str(out))
    )
    return time.perf_counter() - started


RIVALS: dict[str, Callable[[Path, Path], float]] = {"plain": plain_loop, "naive-ray": naive_ray}

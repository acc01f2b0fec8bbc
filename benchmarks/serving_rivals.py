"""FastAPI endpoints that others would write, for `benchmarks/serving.py`; each is a process.

    python benchmarks/serving_rivals.py naive|naive-float --onnx FILE --spec FILE --port N

`naive` has a picture decoded and computed in FastAPI's threads, with taxon's own preprocessing and
the same graph. `naive-float` is what people write: a form, Pillow, normalisation in NumPy, a graph
that takes floats.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import Body, FastAPI, UploadFile
from PIL import Image

from taxon.preprocessing import Preprocessing, prepare

Picture = Annotated[bytes, Body(media_type="image/jpeg")]
TOP = 5


def session_of(file: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a graph; 0 threads: as many as ONNX Runtime takes by itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def answer_of(probabilities: np.ndarray, names: list[str]) -> dict[str, Any]:
    """What a client is told of one picture."""
    order = np.argsort(-probabilities)[:TOP]
    top = [{"label": names[at], "probability": float(probabilities[at])} for at in order]
    return {"label": top[0]["label"], "confidence": top[0]["probability"], "top": top}


def naive(onnx: Path, spec: Preprocessing, names: list[str]) -> FastAPI:
    """An endpoint in the thread pool; the graph normalises."""
    session, app = session_of(onnx), FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(picture: Picture) -> dict[str, Any]:
        image = prepare(picture, spec)
        return answer_of(session.run(["probabilities"], {"images": image[None]})[0][0], names)

    return app


def naive_float(onnx: Path, spec: Preprocessing, names: list[str]) -> FastAPI:
    """An endpoint as people write it: everything in NumPy, and a graph that takes floats."""
    session, app = session_of(onnx), FastAPI()
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    (given,) = session.get_inputs()
    short = round(spec.width / spec.crop_fraction)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB")
        scale = short / min(image.size)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
        left, top = (image.width - spec.width) // 2, (image.height - spec.height) // 2
        image = image.crop((left, top, left + spec.width, top + spec.height))
        pixels = (np.asarray(image, np.float32) / 255 - mean) / std
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        return answer_of(session.run(["probabilities"], {given.name: batch})[0][0], names)

    return app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=("naive", "naive-float"))
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--spec", type=Path, required=True, help="preprocessing.json of the model")
    parser.add_argument("--labels", type=Path, required=True, help="labels.json of the model")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    spec = Preprocessing.model_validate_json(given.spec.read_text())
    names = json.loads(given.labels.read_text())["names"]
    make = naive if given.kind == "naive" else naive_float
    app = make(given.onnx, spec, names)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()

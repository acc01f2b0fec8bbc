"""What the tests of serving share: a small fake model, and applications around it."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from taxon.bundle import ModelSpec
from taxon.bundle.reference import Reference
from taxon.core.labels import LabelSpace
from taxon.core.predictions import ImageBatch
from taxon.decision import DecisionPolicy
from taxon.inference import Outputs, Predictor
from taxon.preprocessing import Preprocessing
from taxon.serving import ServingSettings, create_app
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.models.places import Place
from taxon.serving.models.served import Opened
from taxon.serving.models.table import ModelTable

SIZE = 16
NAMES = ("blue", "green", "red")


class MeanColour:
    """Probabilities from the mean colours; a black picture makes it fail.

    It takes `seconds` a batch, and waits for `gate` where there is one.
    """

    name = "onnxruntime"

    def __init__(self, seconds: float = 0.0, gate: threading.Event | None = None) -> None:
        self.seconds = seconds
        self.gate = gate
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def run(self, images: ImageBatch) -> Outputs:
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        assert self.gate is None or self.gate.wait(20)
        if (images.max(axis=(1, 2, 3)) == 0).any():
            raise RuntimeError("a black picture")
        means = images.mean(axis=(2, 3))[:, ::-1].astype(np.float32) + 1
        probabilities = means / means.sum(axis=1, keepdims=True)
        return Outputs(logits=np.log(probabilities), probabilities=probabilities)


def make_predictor(backend: MeanColour | None = None, name: str = "colours") -> Predictor:
    labels = LabelSpace.flat("multiclass", NAMES)
    spec = ModelSpec(
        name=name,
        fingerprint="f" * 64,
        backbone="none",
        label_space=labels,
        preprocessing=Preprocessing(height=SIZE, width=SIZE),
        policy=DecisionPolicy.default(labels).model_copy(update={"abstain_below": 0.5}),
    )
    return Predictor(spec, backend or MeanColour())


def png(colour: tuple[int, int, int], size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


RED, GREEN, BLUE, BLACK = (png(c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)))


def table_of(
    *predictors: Predictor,
    settings: ServingSettings | None = None,
    reference: Reference | None = None,
) -> ModelTable:
    """A table with these models, by their own names, version 1 each."""
    by_name = {predictor.spec.name: predictor for predictor in predictors}

    def look() -> list[Place]:
        return [Place(Path(name), Path(name), name, "1", name) for name in by_name]

    async def open_place(place: Place) -> Opened:
        assert place.name is not None
        # Two threads also on a machine of one core, where tests hold one of them.
        engine = LocalEngine(by_name[place.name], settings or ServingSettings(), 2)
        await engine.start()
        return Opened(engine, reference)

    return ModelTable(look, open_place)


def app_of(*predictors: Predictor, settings: ServingSettings | None = None) -> FastAPI:
    """The application around `table_of`."""
    return create_app(table_of(*predictors, settings=settings), settings)


def in_process(app: FastAPI, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run concurrent requests against the application, its lifespan included."""

    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            await work(client)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task or thread does; fails after twenty seconds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def error_of(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert "\n" not in body["error"]
    return str(body["error"])


def files(*pictures: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", picture) for picture in pictures]


def tensor(shape: list[int], data: object, **more: object) -> dict[str, object]:
    return {"name": "images", "shape": shape, "datatype": "UINT8", "data": data, **more}


def encoded(*pictures: bytes) -> dict[str, object]:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}


def of_colours(*colours: tuple[int, int, int]) -> ImageBatch:
    return np.stack(
        [np.broadcast_to(np.array(c, np.uint8)[:, None, None], (3, SIZE, SIZE)) for c in colours]
    )

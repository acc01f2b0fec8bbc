"""What bodies take of the memory: what `max_buffered_bytes` counts, and no longer than due."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from serving_apps import MeanColour, app_of, make_predictor

from taxon.serving import ServingSettings
from taxon.serving.http.uploads import uploads_of
from taxon.serving.refusals import BadRequest

MEGABYTE = 1_000_000
MEBIBYTE = 1 << 20
PIECE = 100_000
PATIENCE = 15.0  # the fake backend waits for its gate 20 seconds at most


def noise() -> bytes:
    """A picture of two megabytes."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (800, 833, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


PICTURE = noise()
HEAD = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
ENCODED = base64.b64encode(PICTURE).decode()
ELEMENT = struct.pack("<I", len(PICTURE)) + PICTURE
TENSOR = {"name": "image_bytes", "shape": [1], "datatype": "BYTES"}
BINARY = json.dumps(
    {"inputs": [{**TENSOR, "parameters": {"binary_data_size": len(ELEMENT)}}]}
).encode()
CLASSIFY, INFER = "/v1/classify", "/v2/models/colours/infer"
WAYS: dict[str, tuple[str, dict[str, str], bytes]] = {
    "raw": (CLASSIFY, {"content-type": "image/png"}, PICTURE),
    "form": (
        CLASSIFY,
        {"content-type": "multipart/form-data; boundary=b"},
        HEAD + PICTURE + b"\r\n--b--\r\n",
    ),
    "json": (
        CLASSIFY,
        {"content-type": "application/json"},
        json.dumps({"pictures": [{"data": ENCODED}]}).encode(),
    ),
    "tensors": (INFER, {"inference-header-content-length": str(len(BINARY))}, BINARY + ELEMENT),
    "tensors in json": (
        INFER,
        {},
        json.dumps({"inputs": [{**TENSOR, "data": [ENCODED]}]}).encode(),
    ),
}


class Call:
    """One request to an application; after `body` the client sends no more, and waits."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes, *, whole: bool) -> None:
        self._scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._pieces = (body[at : at + PIECE] for at in range(0, len(body), PIECE))
        self._whole = whole
        self.sent_all = False
        self.status: int | None = None

    async def run(self, app: FastAPI) -> None:
        await app(self._scope, self._receive, self._send)  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)  # the others' turn
        piece = next(self._pieces, b"")
        if not piece:
            self.sent_all = True
            if not self._whole:
                await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)


@pytest.fixture
def traced() -> Iterator[Callable[[], float]]:
    """Gives the megabytes of Python's objects that were made since, and are still there."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0] / MEGABYTE
    tracemalloc.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


def around(app: FastAPI, calls: list[Call], work: Callable[[], Awaitable[None]]) -> None:
    """Make these calls, and do the work meanwhile; those that are not answered then are left."""

    async def main() -> None:
        async with app.router.lifespan_context(app):
            running = [asyncio.create_task(call.run(app)) for call in calls]
            try:
                await work()
            finally:
                for each in running:
                    each.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(main())


def test_base64_in_pieces() -> None:
    """What is long is decoded in pieces; it may end at the end alone."""
    body = WAYS["json"][2]
    (upload,) = uploads_of("application/json", body, 1)
    assert upload.data == PICTURE
    ended = base64.b64encode(b"x" * (MEBIBYTE * 3 // 4 - 1)).decode()
    assert len(ended) == MEBIBYTE and ended.endswith("=")
    body = json.dumps({"pictures": [{"data": ended + "AAAA"}]}).encode()
    with pytest.raises(BadRequest, match="picture is not base64"):
        uploads_of("application/json", body, 1)


@pytest.mark.parametrize("way", WAYS)
def test_held_once(way: str, traced: Callable[[], float]) -> None:
    """While pictures wait for their computation, their bodies are in memory once."""
    gate = threading.Event()
    gate.set()  # for the start, which measures
    backend = MeanColour(gate=gate)
    settings = ServingSettings(max_wait_ms=PATIENCE * 1000, max_batch_size=1)
    app = app_of(make_predictor(backend), settings=settings)
    path, headers, body = WAYS[way]
    calls = [Call(path, headers, body, whole=True) for _ in range(10)]

    async def work() -> None:
        gate.clear()
        before, bodies = traced(), len(calls) * len(body) / MEGABYTE
        await until(lambda: sum(served.engine.depth for served in app.state.desk.table) == 10)
        await until(lambda: traced() - before < 1.2 * bodies)
        gate.set()
        await until(lambda: all(call.status == 200 for call in calls))

    around(app, calls, work)


def test_refused_bodies_are_let_go(traced: Callable[[], float]) -> None:
    """What came of them is not kept while the rest of them is read and thrown away."""
    settings = ServingSettings(max_body_bytes=4 * MEGABYTE, max_buffered_bytes=4 * MEGABYTE)
    app = app_of(make_predictor(), settings=settings)
    body = b"x" * (2 * MEGABYTE)
    calls = [Call(CLASSIFY, {"content-type": "image/png"}, body, whole=False) for _ in range(20)]

    async def work() -> None:
        before = traced()
        await until(lambda: all(call.sent_all for call in calls))
        refused = [call for call in calls if call.status == 503]
        assert 18 <= len(refused) < 20
        assert traced() - before < 8

    around(app, calls, work)

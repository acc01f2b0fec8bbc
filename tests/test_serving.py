"""The server, in process and as a real one, around a small fake backend."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from taxon.bundle import ModelSpec
from taxon.core.errors import ConfigError, InputError
from taxon.core.labels import LabelSpace
from taxon.core.predictions import ImageBatch, Prediction
from taxon.decision import DecisionPolicy
from taxon.inference import Outputs, Predictor
from taxon.preprocessing import Preprocessing
from taxon.serving import (
    Batcher,
    ComputationFailed,
    Overloaded,
    Row,
    ServingSettings,
    create_app,
    serve,
)
from taxon.serving.v1 import FileResult

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


@pytest.fixture
def backend() -> MeanColour:
    return MeanColour()


@pytest.fixture
def client(backend: MeanColour) -> Iterator[TestClient]:
    app = create_app(make_predictor(backend), ServingSettings(max_body_bytes=100_000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


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


def error_of(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert "\n" not in body["error"]
    return str(body["error"])


def files(*pictures: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", picture) for picture in pictures]


class TestClassify:
    def test_one_file(self, client: TestClient) -> None:
        answer = client.post("/v1/classify", files={"anything": ("a b.png", RED)})
        assert answer.status_code == 200
        body = answer.json()
        assert body["model"] == {"name": "colours", "version": "1", "fingerprint": "f" * 64}
        (result,) = body["results"]
        assert result["file"] == "a b.png"
        assert result["label"] == "red" and result["labels"] == ["red"]
        assert result["confidence"] == pytest.approx(256 / 258)
        assert [scored["label"] for scored in result["top"]] == ["red", "blue", "green"]
        assert result["error"] is None and result["unsure"] is False
        assert re.fullmatch(r"classify;dur=[\d.]+", answer.headers["server-timing"])

    def test_fields_are_those_of_a_prediction(self) -> None:
        expected = [n if n != "path" else "file" for n in Prediction.model_fields]
        assert list(FileResult.model_fields) == expected

    def test_many_files_in_order(self, client: TestClient) -> None:
        sent = files(("g", GREEN), ("r", RED), ("b", BLUE))
        results = client.post("/v1/classify", files=sent).json()["results"]
        assert [(r["file"], r["label"]) for r in results] == [
            ("g", "green"),
            ("r", "red"),
            ("b", "blue"),
        ]

    @pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "IMAGE/X; a=b"])
    def test_raw_bytes(self, client: TestClient, kind: str) -> None:
        answer = client.post("/v1/classify", content=BLUE, headers={"content-type": kind})
        assert [r["label"] for r in answer.json()["results"]] == ["blue"]

    def test_bad_picture_alone(self, client: TestClient) -> None:
        answer = client.post("/v1/classify", files=files(("cat.txt", b"meow")))
        assert error_of(answer, 400).startswith("cat.txt: not a picture")

    def test_bad_picture_among_others(self, client: TestClient) -> None:
        sent = files(("r", RED), ("cut.png", GREEN[:40]), ("none", b""), ("b", BLUE))
        answer = client.post("/v1/classify", files=sent)
        assert answer.status_code == 200
        red, cut, none, blue = answer.json()["results"]
        assert (red["label"], blue["label"]) == ("red", "blue")
        assert cut["file"] == "cut.png" and cut["label"] is None and cut["error"]
        assert none["error"] == "the file is empty"

    def test_unsure(self, client: TestClient) -> None:
        grey = client.post("/v1/classify", files=files(("g", png((99, 100, 99)))))
        assert grey.json()["results"][0]["unsure"] is True

    @pytest.mark.parametrize("top", [1, 3])
    def test_top(self, client: TestClient, top: int) -> None:
        answer = client.post(f"/v1/classify?top={top}", files=files(("r", RED)))
        assert len(answer.json()["results"][0]["top"]) == top

    @pytest.mark.parametrize("top", ["0", "4", "x"])
    def test_top_out_of_range(self, client: TestClient, top: str) -> None:
        answer = client.post(f"/v1/classify?top={top}", files=files(("r", RED)))
        assert f"query 'top' is '{top}'" in error_of(answer, 400)

    @pytest.mark.parametrize("kind", ["text/plain", "application/json"])
    def test_wrong_content_type(self, client: TestClient, kind: str) -> None:
        answer = client.post("/v1/classify", content=RED, headers={"content-type": kind})
        assert f"'{kind}' is not supported" in error_of(answer, 415)

    def test_no_content_type(self, client: TestClient) -> None:
        assert "no content type" in error_of(client.post("/v1/classify", content=RED), 415)

    def test_empty_body(self, client: TestClient) -> None:
        answer = client.post("/v1/classify", headers={"content-type": "image/png"})
        assert "the body is empty" in error_of(answer, 400)

    def test_form_without_file(self, client: TestClient) -> None:
        boundary = "multipart/form-data; boundary=b"
        body = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'
        answer = client.post("/v1/classify", content=body, headers={"content-type": boundary})
        assert "no file" in error_of(answer, 400)

    @pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=b"])
    def test_broken_form(self, client: TestClient, kind: str) -> None:
        answer = client.post("/v1/classify", content=b"nonsense", headers={"content-type": kind})
        assert "form" in error_of(answer, 400)

    def test_too_many_pictures(self) -> None:
        settings = ServingSettings(max_batch_size=2, max_queue=2)
        with TestClient(create_app(make_predictor(), settings)) as client:
            answer = client.post("/v1/classify", files=files(*[("r", RED)] * 3))
            assert "more than 2 pictures" in error_of(answer, 413)
            body = {"inputs": [encoded(RED, RED, RED)]}
            answer = client.post("/v2/models/colours/infer", json=body)
            assert "3 pictures in one request; at most 2" in error_of(answer, 413)
            assert client.post("/v1/classify", files=files(("r", RED))).status_code == 200

    def test_model(self, client: TestClient) -> None:
        model = client.get("/v1/model").json()
        assert model["name"] == "colours" and model["task"] == "multiclass"
        assert model["classes"] == list(NAMES) and model["thresholds"] is None
        assert model["input"] == {"height": SIZE, "width": SIZE}
        assert model["limits"] == {"max_body_bytes": 100_000, "max_pictures": 256}

    def test_multilabel(self) -> None:
        labels = LabelSpace.flat("multilabel", NAMES)
        policy = DecisionPolicy.default(labels).model_copy(update={"thresholds": (0.2, 0.4, 0.9)})
        spec = make_predictor().spec.model_copy(update={"label_space": labels, "policy": policy})
        with TestClient(create_app(Predictor(spec, MeanColour()))) as client:
            model = client.get("/v1/model").json()
            assert model["thresholds"] == {"blue": 0.2, "green": 0.4, "red": 0.9}
            answer = client.post("/v1/classify", files=files(("c", png((0, 255, 255)))))
        (result,) = answer.json()["results"]
        assert result["label"] is None and result["labels"] == ["blue", "green"]

    def test_pictures_of_too_many_pixels(self) -> None:
        app = create_app(make_predictor().limited_to(SIZE * SIZE - 1))
        with TestClient(app) as client:
            text = error_of(client.post("/v1/classify", files={"f": ("red.png", RED)}), 400)
        assert text == "red.png: 16x16 is over the limit of 255 pixels"

    def test_unknown_address(self, client: TestClient) -> None:
        assert error_of(client.get("/nothing"), 404)
        assert error_of(client.get("/v1/classify"), 405)


class TestBodyLimit:
    LIMIT = 100_000

    def headers(self, **more: str) -> dict[str, str]:
        return {"content-type": "application/octet-stream", **more}

    def test_declared(self, client: TestClient) -> None:
        body = b"x" * (self.LIMIT + 1)
        answer = client.post("/v1/classify", content=body, headers=self.headers())
        text = error_of(answer, 413)
        assert f"{self.LIMIT + 1} bytes" in text and f"at most {self.LIMIT}" in text

    def test_just_within(self, client: TestClient) -> None:
        body = RED + b"\0" * (self.LIMIT - len(RED))
        answer = client.post("/v1/classify", content=body, headers=self.headers())
        assert answer.status_code == 200

    def test_every_route(self, client: TestClient) -> None:
        body = b"x" * (self.LIMIT + 1)
        assert error_of(client.post("/v2/models/colours/infer", content=body), 413)

    @pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
    def test_chunked_is_refused_before_it_is_read(self, kind: str) -> None:
        """The app sees no more than one chunk over the limit."""
        read_before_answer = 0
        answered = False

        async def main() -> None:
            app = create_app(make_predictor(), ServingSettings(max_body_bytes=self.LIMIT))
            head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
            chunks = iter([head.ljust(10_000, b"x")] + [b"x" * 10_000] * 99)

            async def receive() -> dict[str, object]:
                nonlocal read_before_answer
                read_before_answer += not answered
                body = next(chunks, b"")
                return {"type": "http.request", "body": body, "more_body": bool(body)}

            async def send(message: dict[str, object]) -> None:
                nonlocal answered
                if message["type"] == "http.response.start":
                    answered = True
                    assert message["status"] == 413

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/v1/classify",
                "query_string": b"",
                "headers": [(b"content-type", kind.encode())],
            }
            async with app.router.lifespan_context(app):
                await app(scope, receive, send)  # type: ignore[arg-type]

        asyncio.run(main())
        assert answered and read_before_answer <= self.LIMIT // 10_000 + 1

    def test_all_bodies_together(self) -> None:
        settings = ServingSettings(max_body_bytes=1000, max_buffered_bytes=1500)

        async def work(client: httpx.AsyncClient) -> None:
            held = asyncio.Event()
            release = asyncio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield RED
                yield b"\0" * (1000 - len(RED))
                held.set()
                await release.wait()

            headers = self.headers()
            first = asyncio.create_task(
                client.post("/v1/classify", content=slow(), headers=headers)
            )
            await held.wait()
            second = await client.post("/v1/classify", content=b"x" * 900, headers=headers)
            assert "busy" in error_of(second, 503) and second.headers["retry-after"] == "1"
            release.set()
            assert (await first).status_code == 200
            again = await client.post("/v1/classify", content=RED, headers=headers)
            assert again.status_code == 200

        in_process(create_app(make_predictor(), settings), work)


def tensor(shape: list[int], data: object, **more: object) -> dict[str, object]:
    return {"name": "images", "shape": shape, "datatype": "UINT8", "data": data, **more}


def encoded(*pictures: bytes) -> dict[str, object]:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}


def of_colours(*colours: tuple[int, int, int]) -> ImageBatch:
    return np.stack(
        [np.broadcast_to(np.array(c, np.uint8)[:, None, None], (3, SIZE, SIZE)) for c in colours]
    )


SHAPE = [1, 3, SIZE, SIZE]
FLAT = [7] * (3 * SIZE * SIZE)
NESTED = of_colours((7, 7, 7)).tolist()
UNEVEN = [[NESTED[0][0], NESTED[0][1], NESTED[0][2][:-1]]]


class TestV2:
    INFER = "/v2/models/colours/infer"

    def infer(self, client: TestClient, *inputs: object, **more: object) -> Any:
        return client.post(self.INFER, json={"inputs": list(inputs), **more})

    def test_server(self, client: TestClient) -> None:
        assert client.get("/v2").json()["name"] == "taxon"
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}

    def test_not_ready_before_start(self) -> None:
        client = TestClient(create_app(make_predictor()))  # no lifespan: not started
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/colours/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200

    @pytest.mark.parametrize("version", ["", "/versions/1"])
    def test_metadata(self, client: TestClient, version: str) -> None:
        assert client.get(f"/v2/models/colours{version}").json() == {
            "name": "colours",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "images", "datatype": "UINT8", "shape": [-1, 3, SIZE, SIZE]},
                {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            ],
        }
        ready = client.get(f"/v2/models/colours{version}/ready")
        assert ready.json() == {"name": "colours", "ready": True}

    def test_whole_frames_where_the_resize_is_in_the_graph(self) -> None:
        spec = make_predictor().spec
        framed = Predictor(spec, MeanColour(), frame=(24, 20)).limited_to(24 * 20)
        with TestClient(create_app(framed)) as client:
            (images, _) = client.get("/v2/models/colours").json()["inputs"]
            assert images["shape"] == [-1, 3, 20, 24]
            assert client.get("/v1/model").json()["input"] == {"height": 20, "width": 24}
            sent = tensor([1, 3, 20, 24], np.full((1, 3, 20, 24), 9, np.uint8).tolist())
            assert self.infer(client, sent).status_code == 200
            files = {"f": ("red.png", png((255, 0, 0), (24, 20)))}
            (result,) = client.post("/v1/classify", files=files).json()["results"]
            assert result["label"] == "red"
            text = error_of(client.post("/v1/classify", files={"f": ("red.png", RED)}), 400)
            assert "takes 24x20 alone" in text

    @pytest.mark.parametrize("path", ["/v2/models/{}", "/v2/models/{}/ready"])
    def test_unknown_model_or_version(self, client: TestClient, path: str) -> None:
        text = error_of(client.get(path.format("other")), 404)
        assert text == "unknown model 'other'; this server has 'colours'"
        assert "no version '2'" in error_of(client.get(path.format("colours/versions/2")), 404)
        assert error_of(client.post("/v2/models/other/infer", json={}), 404)

    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("version", ["", "/versions/1"])
    def test_images(self, client: TestClient, flat: bool, version: str) -> None:
        images = of_colours((255, 0, 0), (0, 0, 255))
        data = images.ravel().tolist() if flat else images.tolist()
        answer = client.post(
            f"/v2/models/colours{version}/infer",
            json={"id": "seven", "inputs": [tensor([2, 3, SIZE, SIZE], data)]},
        ).json()
        assert answer["model_name"] == "colours" and answer["model_version"] == "1"
        assert answer["id"] == "seven"
        expected = MeanColour().run(images)
        for output in answer["outputs"]:
            assert output["datatype"] == "FP32" and output["shape"] == [2, 3]
            values = np.array(output["data"], np.float32).reshape(2, 3)
            assert np.array_equal(values, getattr(expected, output["name"]))
        assert [output["name"] for output in answer["outputs"]] == ["probabilities", "logits"]

    def test_image_bytes(self, client: TestClient) -> None:
        answer = self.infer(client, encoded(RED, BLUE), outputs=[{"name": "logits"}]).json()
        assert "id" not in answer
        (output,) = answer["outputs"]
        assert output["name"] == "logits"
        assert np.array(output["data"]).reshape(2, 3).argmax(axis=1).tolist() == [2, 0]

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ([tensor([1, 3, 9, 9], FLAT)], "allowed is [N, 3, 16, 16]"),
            ([tensor([3, SIZE, SIZE], FLAT)], "allowed is [N, 3, 16, 16]"),
            ([tensor([0, 3, SIZE, SIZE], [])], "N at least 1"),
            ([tensor(SHAPE, FLAT[:-1])], "flat with 768 values"),
            ([tensor([2, 3, SIZE, SIZE], NESTED)], "its declared shape is [2, 3, 16, 16]"),
            ([tensor(SHAPE, UNEVEN)], "nested unevenly"),
            ([tensor(SHAPE, FLAT, datatype="FP32")], "datatype 'FP32'; allowed is 'UINT8'"),
            ([tensor(SHAPE, [256, *FLAT[1:]])], "the value 256; allowed is 0 to 255"),
            ([tensor(SHAPE, [-1, *FLAT[1:]])], "the value -1"),
            ([tensor(SHAPE, [10**30, *FLAT[1:]])], "allowed is 0 to 255"),
            ([tensor(SHAPE, [0.5, *FLAT[1:]])], "has a float in it"),
            ([tensor(SHAPE, [True, *FLAT[1:]])], "has a bool in it"),
            ([tensor(SHAPE, ["1", *FLAT[1:]])], "has a str in it"),
            ([tensor(SHAPE, [None, *FLAT[1:]])], "has a NoneType in it"),
            ([], "0 inputs; send exactly one"),
            ([tensor(SHAPE, FLAT), encoded(RED)], "2 inputs"),
            ([tensor(SHAPE, FLAT, name="x")], "unknown input 'x'"),
            ([{"name": "images"}], "inputs.0.shape: field required"),
            ([{**encoded(RED), "shape": [2]}], "with N values"),
            ([{**encoded(RED), "datatype": "UINT8"}], "allowed is 'BYTES'"),
            ([{**encoded(), "shape": [1], "data": ["%%%"]}], "image_bytes[0] is not base64"),
            ([{**encoded(), "shape": [1], "data": ["\xe9"]}], "image_bytes[0] is not base64"),
            ([{**encoded(), "shape": [1], "data": [5]}], "image_bytes[0] is a int"),
            ([encoded(RED, b"meow")], "image_bytes[1]: not a picture"),
            ([tensor(SHAPE, FLAT, parameters={"binary_data_size": 768})], "binary_data"),
        ],
    )
    def test_wrong_requests(self, client: TestClient, tensors: list[object], words: str) -> None:
        assert words in error_of(self.infer(client, *tensors), 400)

    def test_deeply_nested(self, client: TestClient) -> None:
        for depth in (70, 5000):
            deep = '{"inputs": [{"name": "images", "shape": [1, 3, 16, 16], "datatype": "UINT8",'
            body = deep + '"data": ' + "[" * depth + "1" + "]" * depth + "}]}"
            assert error_of(client.post(self.INFER, content=body), 400)

    def test_wrong_outputs_and_bodies(self, client: TestClient) -> None:
        answer = self.infer(client, encoded(RED), outputs=[{"name": "features"}])
        assert "unknown output 'features'" in error_of(answer, 400)
        wish = {"name": "logits", "parameters": {"binary_data": True}}
        answer = self.infer(client, encoded(RED), outputs=[wish])
        assert "binary_data is not supported" in error_of(answer, 400)
        for body in (b"", b"{", b"[]", b"\xff"):
            assert error_of(client.post(self.INFER, content=body), 400)

    def test_binary_extension_is_refused(self, client: TestClient) -> None:
        headers = {"Inference-Header-Content-Length": "10"}
        answer = client.post(self.INFER, content=b"x", headers=headers)
        assert "binary tensor extension" in error_of(answer, 400)


class TestBatching:
    def test_concurrent_requests_share_batches_and_get_their_own_rows(self) -> None:
        backend = MeanColour(seconds=0.01)
        settings = ServingSettings(max_batch_size=8, max_delay_ms=100)
        random = np.random.default_rng(0)
        colours = [tuple(int(v) for v in c) for c in random.integers(1, 256, (60, 3))]

        async def work(client: httpx.AsyncClient) -> None:
            async def ask(colour: tuple[int, ...]) -> None:
                picture = png(colour)  # type: ignore[arg-type]
                answer = await client.post("/v1/classify", files=files(("p", picture)))
                got = {s["label"]: s["probability"] for s in answer.json()["results"][0]["top"]}
                expected = (np.array(colour[::-1]) + 1) / (sum(colour) + 3)
                assert [got[name] for name in NAMES] == pytest.approx(expected, abs=1e-5)

            await asyncio.gather(*(ask(colour) for colour in colours))

        in_process(create_app(make_predictor(backend), settings), work)
        assert sum(backend.batches) == 60
        assert max(backend.batches) <= 8
        assert len(backend.batches) < 30  # batches of more than two on average
        assert len(backend.threads) == 1 and threading.get_ident() not in backend.threads

    def test_overflow_is_refused_at_once_and_passes(self) -> None:
        gate = threading.Event()
        settings = ServingSettings(max_batch_size=2, max_delay_ms=0, max_queue=4)

        async def work(client: httpx.AsyncClient) -> None:
            async def ask() -> httpx.Response:
                return await client.post("/v1/classify", files=files(("r", RED)))

            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            for refused in islice(asyncio.as_completed(tasks), 16):
                answer = await refused  # while the backend holds the other four
                assert "4 of 4 places" in error_of(answer, 503)
                assert answer.headers["retry-after"] == "1"
            assert sum(task.done() for task in tasks) == 16
            gate.set()
            answers = await asyncio.gather(*tasks)
            assert sum(answer.status_code == 200 for answer in answers) == 4
            assert (await ask()).status_code == 200

        in_process(create_app(make_predictor(MeanColour(gate=gate)), settings), work)

    def test_backend_failure_stays_with_its_request(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = client.post("/v1/classify", files=files(("k", BLACK)))
        assert error_of(answer, 500) == "internal error"
        assert "a black picture" in caplog.text
        assert client.post("/v1/classify", files=files(("r", RED))).status_code == 200
        assert error_of(client.post("/v1/classify", files=files(("k", BLACK), ("r", RED))), 500)
        assert client.get("/v2/health/ready").status_code == 200

    def test_unexpected_exception(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> Prediction:
            raise KeyError("a secret")

        monkeypatch.setattr(Predictor, "decide", broken)
        answer = client.post("/v1/classify", files=files(("r", RED)))
        assert error_of(answer, 500) == "internal error"


def run_batcher(
    work: Callable[[Batcher], Awaitable[None]],
    run: Callable[[ImageBatch], Outputs],
    *,
    max_batch_size: int = 4,
    max_delay_ms: float = 0.0,
    max_queue: int = 8,
) -> None:
    async def main() -> None:
        batcher = Batcher(
            run,
            max_batch_size=max_batch_size,
            max_delay_ms=max_delay_ms,
            max_queue=max_queue,
        )
        await batcher.start()
        try:
            await work(batcher)
        finally:
            await batcher.stop()

    asyncio.run(main())


class TestBatcher:
    RED = of_colours((255, 0, 0))[0]
    BLACK = of_colours((0, 0, 0))[0]

    async def held(self, batcher: Batcher, backend: MeanColour) -> asyncio.Task[Row]:
        """Submit a picture and return once the backend has it and waits at its gate."""
        task = asyncio.create_task(batcher.submit(self.RED))
        while not backend.batches:
            await asyncio.sleep(0.001)
        return task

    def test_window_closes(self) -> None:
        backend = MeanColour()

        async def work(batcher: Batcher) -> None:
            started = time.perf_counter()
            row = await batcher.submit(self.RED)
            assert 0.29 < time.perf_counter() - started < 2
            assert row.probabilities.shape == row.logits.shape == (3,)
            # A full batch does not wait.
            started = time.perf_counter()
            await batcher.submit_many([self.RED] * 4)
            assert time.perf_counter() - started < 0.25

        run_batcher(work, backend.run, max_delay_ms=300)
        assert backend.batches == [1, 4]

    def test_full_queue(self) -> None:
        gate = threading.Event()
        backend = MeanColour(gate=gate)

        async def work(batcher: Batcher) -> None:
            computing = await self.held(batcher, backend)
            waiting = asyncio.create_task(batcher.submit_many([self.RED] * 7))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="7 of 8 places taken, 2 wanted"):
                await batcher.submit_many([self.RED] * 2)  # at once: the gate is shut
            last = asyncio.create_task(batcher.submit(self.RED))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(computing, waiting, last)

        run_batcher(work, backend.run)
        assert backend.batches == [1, 4, 4]

    def test_failing_batch(self) -> None:
        async def work(batcher: Batcher) -> None:
            with pytest.raises(ComputationFailed, match="a black picture") as failure:
                await batcher.submit_many([self.BLACK, self.RED])
            assert isinstance(failure.value.__cause__, RuntimeError)
            assert (await batcher.submit(self.RED)).probabilities.argmax() == 2

        run_batcher(work, MeanColour().run)

    def test_wrong_number_of_rows(self) -> None:
        def run(images: ImageBatch) -> Outputs:
            return MeanColour().run(images[:1])

        async def work(batcher: Batcher) -> None:
            with pytest.raises(ComputationFailed, match="1 rows for 2 pictures"):
                await batcher.submit_many([self.RED] * 2)

        run_batcher(work, run)

    def test_given_up_pictures_are_not_computed(self) -> None:
        gate = threading.Event()
        backend = MeanColour(gate=gate)

        async def work(batcher: Batcher) -> None:
            first = await self.held(batcher, backend)
            given_up = asyncio.create_task(batcher.submit(self.RED))
            await asyncio.sleep(0)
            given_up.cancel()
            gate.set()
            await first
            await batcher.submit(self.RED)

        run_batcher(work, backend.run)
        assert sum(backend.batches) == 2

    def test_stop_drains(self) -> None:
        backend = MeanColour(seconds=0.05)

        async def work(batcher: Batcher) -> None:
            tasks = [asyncio.create_task(batcher.submit(self.RED)) for _ in range(8)]
            await asyncio.sleep(0)
            await batcher.stop()
            assert not batcher.running and backend.batches == [4, 4]
            assert len(await asyncio.gather(*tasks)) == 8
            with pytest.raises(Overloaded, match="not accepting"):
                await batcher.submit(self.RED)

        run_batcher(work, backend.run, max_delay_ms=10_000)


class TestPage:
    def test_page_and_files(self, client: TestClient) -> None:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' blob: data:")
        named = re.findall(r'(?:href|src)="(static/[^"]+)"', page.text)
        assert {"static/page.css", "static/page.js"} <= set(named)
        for path in named:
            assert client.get(path).status_code == 200
        assert client.get("/static/page.js").headers["content-type"].startswith("text/javascript")
        assert error_of(client.get("/static/secret"), 404)
        assert error_of(client.get("/static/..%2fapp.py"), 404)

    def test_nothing_from_elsewhere(self) -> None:
        for file in (resources.files("taxon.serving") / "static").iterdir():
            text = file.read_text(encoding="utf-8")
            text = text.replace("http://www.w3.org/2000/svg", "")  # SVG's name, never fetched
            assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), file.name
            assert " style=" not in text and "innerHTML" not in text, file.name

    def test_openapi(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        classify = document["paths"]["/v1/classify"]["post"]
        assert set(classify["requestBody"]["content"]) == {
            "multipart/form-data",
            "image/*",
            "application/octet-stream",
        }
        assert {"200", "400", "413", "415", "503"} <= set(classify["responses"])
        text = json.dumps(document)
        assert '"422"' not in text and "HTTPValidationError" not in text
        for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text):
            assert reference in document["components"]["schemas"]
        assert "$defs" not in text
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation["summary"], path
        assert client.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch_size": 0},
        {"max_delay_ms": -1.0},
        {"max_delay_ms": float("nan")},
        {"max_queue": 8, "max_batch_size": 9},
        {"max_buffered_bytes": 1},
        {"model_version": "a/b"},
    ],
)
def test_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServingSettings(**wrong)  # type: ignore[arg-type]


def test_import_is_light() -> None:
    heavy = ("torch", "timm", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow")
    code = (
        "import sys, taxon.serving\n"
        f"print([m for m in {heavy} if m in sys.modules],"
        "[m for m in sys.modules if m.startswith(('taxon.training', 'taxon.data', "
        "'taxon.models'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] []"


SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_serving import MeanColour, make_predictor
from taxon.serving import ServingSettings, serve

class Telling(MeanColour):
    def run(self, images):
        print("computing", flush=True)
        return super().run(images)

serve(
    make_predictor(Telling(seconds=0.5)),
    port=0,
    settings=ServingSettings(max_body_bytes=1_000_000),
    on_ready=lambda url: print(url, flush=True),
)
print("left serve", flush=True)
"""


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    url = started.stdout.readline().strip()
    yield started, url
    started.kill()
    started.communicate()


class TestRealServer:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stops_gracefully(
        self, process: tuple[subprocess.Popen[str], str], number: signal.Signals
    ) -> None:
        started, url = process
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/v1/classify", files=files(("r", RED)), timeout=20))

        in_flight = threading.Thread(target=ask)
        in_flight.start()
        assert started.stdout is not None
        assert started.stdout.readline() == "computing\n"  # for 0.5 s
        started.send_signal(number)
        out, err = started.communicate(timeout=20)
        in_flight.join()
        assert answers[0].json()["results"][0]["label"] == "red"
        assert started.returncode == 0, err
        assert out == "left serve\n" and err == ""

    def test_large_bodies_get_their_answer(
        self, process: tuple[subprocess.Popen[str], str]
    ) -> None:
        _, url = process
        headers = {"content-type": "image/png"}
        body = b"x" * 8_000_000

        def chunks() -> Iterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        for content in (body, chunks()):
            answer = httpx.post(f"{url}/v1/classify", content=content, headers=headers)
            assert "at most 1000000 are allowed" in error_of(answer, 413)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200

    def test_expect_continue(self, process: tuple[subprocess.Popen[str], str]) -> None:
        """A client that asks first is refused without sending, and no 100 follows the 413."""
        host, port = process[1].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/classify HTTP/1.1\r\nHost: t\r\nContent-Type: image/png\r\n"
                b"Content-Length: 9000000\r\nExpect: 100-continue\r\n\r\n"
            )
            received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 413") and b"100 Continue" not in received

    def test_port_in_use(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(InputError) as error:
                serve(make_predictor(), port=port)
        assert str(error.value) == (
            f"port {port} on 127.0.0.1 is already in use; choose another with --port"
        )

    @pytest.mark.parametrize(
        ("host", "port", "words"),
        [
            ("127.0.0.1", 70000, "port 70000 does not exist"),
            ("203.0.113.9", 0, "203.0.113.9 is not an address of this machine"),
            ("no such host", 0, "host 'no such host' is not known"),
        ],
    )
    def test_impossible_addresses(self, host: str, port: int, words: str) -> None:
        with pytest.raises(InputError, match=words):
            serve(make_predictor(), host=host, port=port)

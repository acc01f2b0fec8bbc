"""The simple routes, limits and settings, in process, around a small fake backend."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import resources

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving_apps import (
    BLUE,
    GREEN,
    NAMES,
    RED,
    SIZE,
    MeanColour,
    app_of,
    encoded,
    error_of,
    files,
    in_process,
    make_predictor,
    png,
)

from taxon.core.errors import ConfigError
from taxon.core.labels import LabelSpace
from taxon.core.predictions import Prediction
from taxon.decision import DecisionPolicy
from taxon.inference import Predictor
from taxon.serving import ServingSettings
from taxon.serving.http.answers import FileResult


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
        assert list(FileResult.model_fields) == [*expected, "explanation"]

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

    def test_json(self, client: TestClient) -> None:
        pictures = [{"name": "r", "data": base64.b64encode(RED).decode()}]
        pictures.append({"data": base64.b64encode(BLUE).decode()})
        answer = client.post("/v1/classify", json={"pictures": pictures}).json()
        assert [(r["file"], r["label"]) for r in answer["results"]] == [
            ("r", "red"),
            ("picture", "blue"),
        ]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "pictures: field required"),
            ([], "should be an object"),
            ({"pictures": []}, "no pictures"),
            ({"pictures": [{"data": "%%"}]}, "picture is not base64"),
            ({"pictures": [{"data": 5}]}, "pictures.0.data: input should be a valid string"),
            ({"pictures": [{"url": "http://example.org"}]}, "pictures.0.data: field required"),
        ],
    )
    def test_wrong_json(self, client: TestClient, body: object, words: str) -> None:
        assert words in error_of(client.post("/v1/classify", json=body), 400)

    def test_explanation(self, client: TestClient) -> None:
        """The red half of a picture is where red comes from, the blue one where blue does."""
        stream = io.BytesIO()
        picture = Image.new("RGB", (SIZE, SIZE), (0, 0, 90))
        picture.paste((255, 0, 0), (0, 0, SIZE // 2, SIZE))
        picture.save(stream, "PNG")
        sent = files(("half", stream.getvalue()), ("cut", RED[:40]))
        answer = client.post("/v1/classify?explain=true", files=sent).json()
        explained, unreadable = answer["results"]
        assert unreadable["explanation"] is None
        found = explained["explanation"]
        assert found["label"] == "red" == explained["label"]
        assert found["probability"] == pytest.approx(explained["confidence"])
        assert found["box"] == [0.0625, 0.0625, 0.9375, 0.9375]  # the centre crop
        heat = np.array(found["heat"])
        assert heat.shape == (7, 7) and heat.min() >= 0 and heat.max() == 1
        assert heat[:, :3].min() > heat[:, 4:].max()
        answer = client.post("/v1/classify?explain=true&label=blue", files=sent[:1]).json()
        other = answer["results"][0]["explanation"]
        assert other["label"] == "blue"
        assert np.array(other["heat"])[:, 4:].min() > np.array(other["heat"])[:, :3].max()
        many = client.post("/v1/classify?explain=true", files=files(*[("r", RED)] * 5))
        assert "at most 4 are explained" in error_of(many, 413)
        wrong = client.post("/v1/classify?explain=true&label=grey", files=sent[:1])
        assert "no class 'grey'" in error_of(wrong, 400)

    def test_explanation_where_few_pictures_have_room(self) -> None:
        settings = ServingSettings(max_batch_size=2, max_queue=3)
        with TestClient(app_of(make_predictor(), settings=settings)) as client:
            answer = client.post("/v1/classify?explain=true", files=files(("r", RED))).json()
        assert answer["results"][0]["explanation"]["label"] == "red"

    @pytest.mark.parametrize(
        ("query", "words"),
        [("label=red", "send explain=true with it"), ("tpo=1", "query 'tpo' is '1'")],
    )
    def test_queries_that_would_do_nothing(
        self, client: TestClient, query: str, words: str
    ) -> None:
        answer = client.post(f"/v1/classify?{query}", files=files(("r", RED)))
        assert words in error_of(answer, 400)

    @pytest.mark.parametrize("kind", ["text/plain", "application/jsonp"])
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
        with TestClient(app_of(make_predictor(), settings=settings)) as client:
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
        with TestClient(app_of(Predictor(spec, MeanColour()))) as client:
            model = client.get("/v1/model").json()
            assert model["thresholds"] == {"blue": 0.2, "green": 0.4, "red": 0.9}
            answer = client.post("/v1/classify", files=files(("c", png((0, 255, 255)))))
        (result,) = answer.json()["results"]
        assert result["label"] is None and result["labels"] == ["blue", "green"]

    def test_pictures_of_too_many_pixels(self) -> None:
        app = app_of(make_predictor().limited_to(SIZE * SIZE - 1))
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
            app = app_of(make_predictor(), settings=ServingSettings(max_body_bytes=self.LIMIT))
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

        in_process(app_of(make_predictor(), settings=settings), work)


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch_size": 0},
        {"max_delay_ms": -1.0},
        {"max_delay_ms": float("nan")},
        {"max_queue": 8, "max_batch_size": 9},
        {"max_buffered_bytes": 1},
        {"max_wait_ms": 0},
        {"client_seconds": 0},
    ],
)
def test_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServingSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "others"),
    [("taxon.serving.http.server", ()), ("taxon.api.serving_worker", ("fastapi", "uvicorn"))],
)
def test_import_is_light(module: str, others: tuple[str, ...]) -> None:
    heavy = ("torch", "timm", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow", *others)
    code = (
        f"import sys, {module}\n"
        f"print([m for m in {heavy} if m in sys.modules],"
        "[m for m in sys.modules if m.startswith(('taxon.training', 'taxon.data', "
        "'taxon.models'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] []"

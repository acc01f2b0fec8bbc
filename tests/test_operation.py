"""What an operator relies on: metrics, logs, keys, headers, deadlines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from serving_apps import (
    BLACK,
    GREEN,
    RED,
    SIZE,
    MeanColour,
    app_of,
    encoded,
    error_of,
    files,
    in_process,
    make_predictor,
    of_colours,
    png,
    tensor,
)

from taxon.core.errors import ConfigError, InputError
from taxon.core.predictions import ImageBatch
from taxon.inference import Predictor
from taxon.serving import ServingSettings, desk
from taxon.serving.keys import read_api_keys
from taxon.serving.logs import (
    JsonFormatter,
    PatientHandler,
    install_logs,
    log_format_of,
    request_id,
)

KEYS = ("first-key-of-twenty-characters", "second-key-of-twenty-characters")


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) -> value."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestMetrics:
    def test_what_was_done_is_counted(self) -> None:
        with TestClient(app_of(make_predictor()), raise_server_exceptions=False) as client:
            client.post("/v1/classify", files=files(("r", RED), ("g", GREEN), ("cut", RED[:40])))
            client.post("/v1/classify", files=files(("grey", png((99, 100, 99)))))
            client.post("/v1/classify", files=files(("k", BLACK)))  # the backend fails
            client.post("/v1/classify?model=x", files=files(("r", RED)))
            for path in ("/nothing", "/nothing/else", "/v2/models/colours"):
                client.get(path)
            answer = client.get("/metrics")
            found = samples(answer.text)
        assert answer.headers["content-type"].startswith("text/plain")
        assert found["taxon_requests_total", "/v1/classify", "200"] == 2
        assert found["taxon_requests_total", "/v1/classify", "500"] == 1
        assert found["taxon_requests_total", "/v1/classify", "404"] == 1
        assert found["taxon_requests_total", "none", "404"] == 2  # and not a series an address
        assert found["taxon_requests_total", "/v2/models/{name}", "200"] == 1
        assert found["taxon_pictures_total", "colours", "answered"] == 2
        assert found["taxon_pictures_total", "colours", "unsure"] == 1
        assert found["taxon_pictures_total", "colours", "unreadable"] == 1
        assert found["taxon_predictions_total", "red", "colours"] == 1
        assert found["taxon_failures_total", "computation"] == 1
        assert found["taxon_queue_depth", "colours"] == 0
        assert found["taxon_phase_seconds_count", "colours", "decode"] == 3
        assert found["taxon_phase_seconds_count", "colours", "queue"] == 3
        batches = found["taxon_batch_size_count", "colours"]
        assert found["taxon_batch_size_sum", "colours"] == 3
        assert found["taxon_phase_seconds_count", "colours", "infer"] == batches
        assert found["taxon_model_info", "f" * 64, "colours", "1"] == 1

    def test_what_the_open_inference_protocol_names_is_counted_too(self) -> None:
        tensors = tensor([2, 3, SIZE, SIZE], of_colours((255, 0, 0), (99, 100, 99)).tolist())
        with TestClient(app_of(make_predictor()), raise_server_exceptions=False) as client:
            for inputs in (tensors, encoded(RED, GREEN), encoded(RED, RED[:40])):
                client.post("/v2/models/colours/infer", json={"inputs": [inputs]})
            found = samples(client.get("/metrics").text)
        assert found["taxon_pictures_total", "colours", "answered"] == 4
        assert found["taxon_pictures_total", "colours", "unsure"] == 1
        assert found["taxon_pictures_total", "colours", "unreadable"] == 1
        assert found["taxon_predictions_total", "red", "colours"] == 3

    def test_open_metrics(self) -> None:
        with TestClient(app_of(make_predictor())) as client:
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            answer = client.get("/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


class TestKeys:
    @pytest.fixture
    def client(self) -> Iterator[TestClient]:
        with TestClient(app_of(make_predictor(), settings=ServingSettings(api_keys=KEYS))) as made:
            yield made

    @pytest.mark.parametrize("path", ["/v1/model", "/v2", "/metrics", "/v2/models/colours"])
    def test_without_and_with(self, client: TestClient, path: str) -> None:
        answer = client.get(path)
        assert "wants a key" in error_of(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        for key in ("", "x", KEYS[0][:-1], KEYS[0] + "x", "\xe9" * 20):
            headers = {"authorization": f"Bearer {key}".encode("latin-1")}
            assert client.get(path, headers=headers).status_code == 401  # type: ignore[arg-type]
        for key in KEYS:
            for headers in ({"authorization": f"bearer {key}"}, {"x-api-key": key}):
                assert client.get(path, headers=headers).status_code == 200

    def test_body_is_not_read_without(self, client: TestClient) -> None:
        assert error_of(client.post("/v1/classify", files=files(("r", RED))), 401)
        text = client.get("/metrics", headers={"x-api-key": KEYS[0]}).text
        assert samples(text)["taxon_rejected_total", "key"] == 1

    def test_probes_have_none(self, client: TestClient) -> None:
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200

    def test_file(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text(f"# ours\n{KEYS[0]}\n\n  {KEYS[1]}\n")
        assert read_api_keys(file) == KEYS

    @pytest.mark.parametrize(
        ("content", "words"),
        [(None, "cannot read"), (b"# none\n", "no keys"), (b"short\n", "secrets.token_urlsafe")],
    )
    def test_wrong_file(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        file = tmp_path / "keys"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_api_keys(file)


class TestHeaders:
    def test_a_browser_may_neither_guess_nor_frame(self) -> None:
        with TestClient(app_of(make_predictor())) as client:
            for path in ("/", "/v1/model", "/nothing"):
                headers = client.get(path).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"
                assert "server" not in headers

    def test_failures_have_them_too(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: object, **more: object) -> None:
            raise KeyError("a secret")

        monkeypatch.setattr(desk, "decide", broken)
        with TestClient(app_of(make_predictor())) as client:
            sent = files(("r", RED))
            answer = client.post("/v1/classify", files=sent, headers={"x-request-id": "seven"})
            assert error_of(answer, 500) == "internal error"
            assert answer.headers["x-request-id"] == "seven"
            assert answer.headers["x-content-type-options"] == "nosniff"
            found = samples(client.get("/metrics").text)
        assert found["taxon_failures_total", "bug"] == 1
        assert "a secret" in caplog.text

    def test_other_origins(self) -> None:
        origin = {"origin": "https://shop.example"}
        asks = {**origin, "access-control-request-method": "POST"}
        with TestClient(app_of(make_predictor())) as client:
            assert (
                "access-control-allow-origin" not in client.get("/v1/model", headers=origin).headers
            )
            assert client.options("/v1/classify", headers=asks).status_code == 405
        settings = ServingSettings(cors_origins=("https://shop.example",), api_keys=KEYS)
        with TestClient(app_of(make_predictor(), settings=settings)) as client:
            allowed = client.options("/v1/classify", headers=asks)
            assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
            refused = client.options(
                "/v1/classify", headers={**asks, "origin": "https://x.example"}
            )
            assert "access-control-allow-origin" not in refused.headers
            answer = client.get("/v1/model", headers=origin)  # an error, but one that can be read
            assert answer.status_code == 401
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"

    def test_request_id(self) -> None:
        with TestClient(app_of(make_predictor())) as client:
            own = client.get("/v1/model", headers={"x-request-id": "order-7"}).headers
            assert own["x-request-id"] == "order-7"
            made = [client.get("/v1/model").headers["x-request-id"] for _ in range(2)]
            assert made[0] != made[1] and len(made[0]) == 16
            odd = client.get("/v1/model", headers={"x-request-id": "a b{}" * 30}).headers
            assert "{" not in odd["x-request-id"]


class TestDeadlines:
    def test_late_requests_are_not_computed(self) -> None:
        gate = threading.Event()
        gate.set()  # for the start, which measures
        backend = MeanColour(gate=gate)

        async def work(client: httpx.AsyncClient) -> None:
            async def ask(**headers: str) -> httpx.Response:
                sent = files(("r", RED))
                return await client.post("/v1/classify", files=sent, headers=headers)

            gate.clear()
            backend.batches.clear()
            # One is computed past the queue, one by it.
            in_time = [asyncio.create_task(ask())]
            while len(backend.batches) < 1:
                await asyncio.sleep(0.005)
            in_time.append(asyncio.create_task(ask()))
            while len(backend.batches) < 2:
                await asyncio.sleep(0.005)
            late = asyncio.create_task(ask(**{"x-timeout-ms": "10"}))
            await asyncio.sleep(0.1)
            gate.set()
            for first in in_time:
                assert (await first).status_code == 200
            assert "time was over" in error_of(await late, 504)
            assert sum(backend.batches) == 2
            for wrong in ("0", "-1", "1.5", "soon"):
                text = error_of(await ask(**{"x-timeout-ms": wrong}), 400)
                assert "whole milliseconds" in text

        in_process(app_of(make_predictor(backend)), work)

    def test_what_is_late_is_not_even_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded: list[str] = []
        prepare = Predictor.prepare

        def slowly(self: Predictor, data: bytes, source: str = "picture") -> ImageBatch:
            decoded.append(source)
            time.sleep(0.05)
            return prepare(self, data, source)

        monkeypatch.setattr(Predictor, "prepare", slowly)

        async def work(client: httpx.AsyncClient) -> None:
            sent = files(*[("r", RED)] * 100)
            late = await client.post("/v1/classify", files=sent, headers={"x-timeout-ms": "500"})
            assert "its time was over before" in error_of(late, 504)
            # Threads take pictures in the order of their coming.
            assert (await client.post("/v1/classify", files=files(("r", RED)))).status_code == 200
            assert 1 <= len(decoded) < 90

        in_process(app_of(make_predictor()), work)

    def test_one_slow_picture_has_no_others_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        prepare = Predictor.prepare

        def slow_once(self: Predictor, data: bytes, source: str = "picture") -> ImageBatch:
            if source == "slow":
                time.sleep(1.5)
            return prepare(self, data, source)

        monkeypatch.setattr(Predictor, "prepare", slow_once)

        async def work(client: httpx.AsyncClient) -> None:
            async def ask(*names: str) -> int:
                sent = files(*[(name, RED) for name in names])
                return (await client.post("/v1/classify", files=sent)).status_code

            assert await ask("slow") == 200
            assert await asyncio.gather(*(ask(*["r"] * 20) for _ in range(4))) == [200] * 4

        in_process(app_of(make_predictor()), work)

    def test_a_long_wait_is_refused_at_once(self) -> None:
        gate = threading.Event()
        gate.set()  # for the start, which measures
        backend = MeanColour(seconds=0.05, gate=gate)
        settings = ServingSettings(max_batch_size=1, max_wait_ms=120)  # for three at most

        async def work(client: httpx.AsyncClient) -> None:
            async def ask() -> httpx.Response:
                return await client.post("/v1/classify", files=files(("r", RED)))

            gate.clear()
            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            for refused in islice(asyncio.as_completed(tasks), 17):  # while nothing is computed
                answer = await refused
                assert "at most 120 are allowed" in error_of(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1
            gate.set()
            counts = Counter(answer.status_code for answer in await asyncio.gather(*tasks))
            assert counts[200] >= 1 and counts[200] + counts[503] == 20
            assert (await ask()).status_code == 200
            found = samples((await client.get("/metrics")).text)
            assert found["taxon_rejected_total", "wait"] == counts[503]

        in_process(app_of(make_predictor(backend), settings=settings), work)


class TestLogs:
    def test_json(self) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        logger = logging.Logger("taxon.test")
        logger.addHandler(handler)
        token = request_id.set("seven")
        try:
            raise ValueError("a\nb")
        except ValueError:
            logger.exception("it %s", "broke", extra={"pictures": 3, "odd": np.float32(1)})
        finally:
            request_id.reset(token)
        logger.info("next\nline")
        broke, plain = (json.loads(line) for line in stream.getvalue().splitlines())
        assert broke["message"] == "it broke" and broke["level"] == "error"
        assert broke["request_id"] == "seven" and broke["pictures"] == 3
        assert "ValueError: a\nb" in broke["exception"]
        assert plain["message"] == "next\nline" and "request_id" not in plain

    def test_a_line_that_cannot_be_written_is_counted(self) -> None:
        before = PatientHandler.dropped
        with Path("/dev/full").open("w") as full:
            handler = PatientHandler(full.fileno())
            handler.handle(logging.makeLogRecord({"msg": "lost"}))
            handler.close()
        assert PatientHandler.dropped == before + 1

    def test_a_pipe_that_nobody_reads(self) -> None:
        """What logs goes on; and when somebody reads, it is said how much was lost."""
        read, write = os.pipe()
        handler = PatientHandler(write)
        before = PatientHandler.dropped
        sent = 0
        while PatientHandler.dropped < before + 7:  # the pipe is full, and then the queue
            handler.handle(logging.makeLogRecord({"msg": f"line {sent}".ljust(100)}))
            sent += 1
        lines: list[str] = []

        def read_lines() -> None:
            with os.fdopen(read, encoding="utf-8") as reader:
                lines.extend(line.strip() for line in islice(reader, sent - 7 + 1))

        reading = threading.Thread(target=read_lines)
        reading.start()
        reading.join(20)
        assert not reading.is_alive()
        handler.close()
        os.close(write)
        assert "7 lines were lost" in lines
        lines.remove("7 lines were lost")
        assert lines == [f"line {at}" for at in range(sent - 7)]

    def test_access(self, capfd: pytest.CaptureFixture[str]) -> None:
        names = ("", "taxon", "taxon.access", "uvicorn.error")
        before = {name: vars(logging.getLogger(name)).copy() for name in names}
        try:
            install_logs(as_json=True, access=True)
            with TestClient(app_of(make_predictor())) as client:
                client.get("/v1/model", headers={"x-request-id": "seven"})
            for handler in logging.getLogger("taxon").handlers:
                handler.close()
        finally:
            for name, state in before.items():
                vars(logging.getLogger(name)).update(state)
        lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        [asked] = [line for line in lines if line["logger"] == "taxon.access"]
        assert asked["request_id"] == "seven" and asked["path"] == "/v1/model"
        assert asked["status"] == 200 and asked["ms"] >= 0

    def test_format(self) -> None:
        assert log_format_of("json") == "json"
        with pytest.raises(ConfigError, match="text or json, received 'xml'"):
            log_format_of("xml")

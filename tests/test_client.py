"""The Python client: against the application itself, and against a server that has no room."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serving_apps import BLUE, GREEN, RED, app_of, make_predictor

import taxon
from taxon.client import AsyncClient, Client, Patience, ServerError
from taxon.core.errors import InputError
from taxon.serving import ServingSettings

IMPATIENT = Patience(attempts=3, longest=0.01)


class Recorded(httpx.BaseTransport):
    """Hands requests to the application of a `TestClient`, and keeps their paths."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._client.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def transport() -> Iterator[Recorded]:
    settings = ServingSettings(api_keys=("k" * 20,))
    with TestClient(app_of(make_predictor(), settings=settings)) as client:
        yield Recorded(client)


@pytest.fixture
def client(transport: Recorded) -> Client:
    return Client("http://testserver", api_key="k" * 20, transport=transport)


class TestWaiting:
    def test_one(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "red.png").write_bytes(RED)
        prediction = client.classify(tmp_path / "red.png", top=2)
        assert prediction.path == "red.png" and prediction.label == "red"
        assert len(prediction.top) == 2
        assert client.classify(BLUE).label == "blue"
        assert client.classify(b"meow").error is not None

    def test_many_in_order_in_few_requests(self, client: Client, transport: Recorded) -> None:
        sent = [(RED, "red"), (GREEN, "green"), (BLUE, "blue"), (b"meow", None)] * 10
        answers = list(client.classify_many([picture for picture, _ in sent]))
        assert [answer.label for answer in answers] == [label for _, label in sent]
        assert [answer.path for answer in answers] == [f"picture {at}" for at in range(1, 41)]
        assert all(answer.error for answer in answers[3::4])
        assert len(transport.requests) == 3

    def test_large_files_are_sent_alone(
        self, client: Client, transport: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("taxon.client.requests.BYTES_TOGETHER", 2 * len(RED) - 1)
        assert len(list(client.classify_many([RED, RED, b"meow"]))) == 3
        assert len(transport.requests) == 2

    def test_model_and_readiness(self, client: Client) -> None:
        assert client.model()["name"] == "colours"
        assert client.ready()
        with pytest.raises(ServerError, match="unknown model 'x'") as error:
            client.model("x")
        assert error.value.status == 404

    def test_wrong_key(self, transport: Recorded) -> None:
        with (
            Client("http://testserver", transport=transport) as client,
            pytest.raises(ServerError, match="wants a key") as error,
        ):
            client.classify(RED)
        assert error.value.status == 401

    def test_absent_file(self, client: Client, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read .*none\.png: No such file"):
            client.classify(tmp_path / "none.png")

    def test_nobody_there(self) -> None:
        client = Client("http://127.0.0.1:9", patience=IMPATIENT)
        assert not client.ready()
        with pytest.raises(ServerError, match=r"no answer from http://127.0.0.1:9") as error:
            client.model()
        assert error.value.status is None

    def test_no_taxon_server(self) -> None:
        page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
        with pytest.raises(ServerError, match="is it a taxon server"):
            Client(transport=page).model()


def busy(times: int, **headers: str) -> tuple[httpx.MockTransport, list[int]]:
    """A server that has no room so many times."""
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        if len(asked) <= times:
            return httpx.Response(503, json={"error": "the server is busy"}, headers=headers)
        return httpx.Response(200, json={"name": "colours"})

    return httpx.MockTransport(answer), asked


class TestPatience:
    def test_tries_again(self) -> None:
        transport, asked = busy(2)
        assert Client(transport=transport, patience=IMPATIENT).model() == {"name": "colours"}
        assert len(asked) == 3

    def test_gives_up(self) -> None:
        transport, asked = busy(9)
        with pytest.raises(ServerError, match="503: the server is busy") as error:
            Client(transport=transport, patience=IMPATIENT).model()
        assert len(asked) == 3 and error.value.status == 503

    def test_other_errors_are_not_tried_again(self) -> None:
        asked: list[int] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(1)
            return httpx.Response(500, json={"error": "internal error"})

        with pytest.raises(ServerError, match="internal error"):
            Client(transport=httpx.MockTransport(answer), patience=IMPATIENT).model()
        assert len(asked) == 1

    def test_heeds_the_server(self) -> None:
        patience = Patience(attempts=3, longest=10)
        asks = httpx.Response(503, headers={"retry-after": "4"})
        assert 4 <= (patience.pause(0, asks) or 0) <= 6
        assert (patience.pause(1, httpx.Response(503, headers={"retry-after": "99"})) or 0) >= 10
        assert 0.25 <= (patience.pause(0, None) or 0) <= 0.375
        assert patience.pause(2, asks) is None
        assert patience.pause(0, httpx.Response(200)) is None


class TestAsync:
    def run(self, app: FastAPI, work: Any) -> None:
        async def main() -> None:
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                AsyncClient("http://t", transport=transport, patience=IMPATIENT) as client,
            ):
                await work(client)

        asyncio.run(main())

    def test_same_answers(self) -> None:
        async def work(client: AsyncClient) -> None:
            assert await client.ready()
            assert (await client.model())["name"] == "colours"
            assert (await client.classify(RED)).label == "red"
            sent = [(RED, "red"), (b"meow", None), (BLUE, "blue")] * 40
            pictures = [picture for picture, _ in sent]
            answers = [answer async for answer in client.classify_many(pictures)]
            assert [answer.label for answer in answers] == [label for _, label in sent]
            with pytest.raises(ServerError, match="unknown model"):
                await client.classify(RED, model="x")

        self.run(app_of(make_predictor()), work)

    def test_tries_again(self) -> None:
        async def main() -> None:
            transport, asked = busy(2)
            async with AsyncClient(transport=transport, patience=IMPATIENT) as client:
                assert await client.model() == {"name": "colours"}
            assert len(asked) == 3
            transport, _ = busy(9)
            async with AsyncClient(transport=transport, patience=IMPATIENT) as client:
                with pytest.raises(ServerError, match="busy"):
                    await client.model()
            async with AsyncClient("http://127.0.0.1:9", patience=IMPATIENT) as client:
                assert not await client.ready()
                with pytest.raises(ServerError, match="no answer"):
                    await client.model()

        asyncio.run(main())

    def test_both_have_the_same_methods(self) -> None:
        for name, method in inspect.getmembers(Client, inspect.isfunction):
            if not name.startswith("_"):
                other = getattr(AsyncClient, name)
                parameters = inspect.signature(method).parameters
                assert list(inspect.signature(other).parameters) == list(parameters), name


def test_is_in_the_package() -> None:
    assert taxon.Client is Client and taxon.AsyncClient is AsyncClient
    assert taxon.ServerError is ServerError and issubclass(ServerError, taxon.TaxonError)

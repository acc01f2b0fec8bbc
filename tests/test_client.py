"""The Python client: against the application itself, and against a server that has no room."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
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
    """Hands requests to the application of a `TestClient`, and keeps them."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.requests: list[httpx.Request] = []
        self.refuses: Callable[[httpx.Request], bool] = lambda request: False

    def sizes(self) -> list[int]:
        """How many pictures each request had, of those to classify."""
        bodies = [each.read() for each in self.requests if each.url.path == "/v1/classify"]
        return [body.count(b"filename=") for body in bodies]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.refuses(request):  # as a proxy does
            return httpx.Response(413, text="<html>")
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
        assert transport.sizes() == [16, 16, 8]

    def test_requests_keep_the_limits_of_the_server(self) -> None:
        settings = ServingSettings(max_body_bytes=2000, max_queue=8, max_batch_size=4)
        with TestClient(app_of(make_predictor(), settings=settings)) as application:
            transport = Recorded(application)
            client = Client("http://testserver", transport=transport)
            assert client.classify(b"x" * 3000).error is not None
            sent = [RED, GREEN, BLUE, b"x" * 3000, b"x" * 1500, b"meow", RED]
            answers = list(client.classify_many(sent))
        labels = [answer.label for answer in answers]
        assert labels == ["red", "green", "blue", None, None, None, "red"]
        assert "at most 2000 are allowed" in (answers[3].error or "")
        assert "not a picture" in (answers[4].error or "")
        # At most a quarter of the queue each: four may be under way.
        assert transport.sizes() == [1, 2, 1, 1, 1, 2]

    def test_a_proxy_with_a_lower_limit(self, client: Client, transport: Recorded) -> None:
        transport.refuses = lambda request: len(request.read()) > 600
        answers = list(client.classify_many([RED, GREEN, b"x" * 600, BLUE, RED]))
        assert [answer.label for answer in answers] == ["red", "green", None, "blue", "red"]
        assert "answered 413 Request Entity Too Large" in (answers[2].error or "")

    @pytest.mark.parametrize("name", ["n" * 240 + ".png", 'a "b"; ü\n%22.png', " "])
    def test_any_name(self, client: Client, tmp_path: Path, name: str) -> None:
        folder = tmp_path / ("long " * 40) / ("long " * 40)
        folder.mkdir(parents=True)
        for content, label in [(RED, "red"), (b"meow", None)]:
            (folder / name).write_bytes(content)
            for answer in [
                client.classify(folder / name),
                *client.classify_many([folder / name] * 2),
            ]:
                assert (answer.path, answer.label) == (name, label)
                assert label or (answer.error or "").startswith("not a picture")

    def test_version(self, client: Client) -> None:
        version = client.model()["version"]
        assert client.model("colours", version)["version"] == version
        assert client.classify(RED, version=version).label == "red"
        assert [a.label for a in client.classify_many([RED], version=version)] == ["red"]
        for asking in (
            lambda: client.classify(RED, version="x"),
            lambda: list(client.classify_many([RED], version="x")),
            lambda: client.model(version="x"),
        ):
            with pytest.raises(ServerError, match="'x'") as error:
                asking()
            assert error.value.status == 404

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

        def pauses(attempt: int, outcome: httpx.Response | httpx.TransportError) -> list[float]:
            found = [patience.pause(attempt, outcome) for _ in range(200)]
            return [each for each in found if each is not None]

        def asks(seconds: int) -> httpx.Response:
            return httpx.Response(503, headers={"retry-after": str(seconds)})

        assert all(4 <= each <= 6 for each in pauses(0, asks(4)))
        assert all(8 <= each <= 10 for each in pauses(0, asks(8)))  # never longer than it says
        late = pauses(1, asks(99))
        assert all(5 <= each <= 10 for each in late) and len(set(late)) > 1
        refused = httpx.ConnectError("refused")
        assert all(0.25 <= each <= 0.375 for each in pauses(0, refused))
        assert pauses(2, asks(4)) == pauses(0, httpx.Response(200)) == []
        assert pauses(0, httpx.ReadTimeout("late")) == []  # it may be computing


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

    def test_requests_keep_the_limits_of_the_server(self) -> None:
        async def work(client: AsyncClient) -> None:
            sent = [RED, GREEN, b"x" * 3000, BLUE] * 5
            answers = [answer async for answer in client.classify_many(sent, version="1")]
            assert [answer.label for answer in answers] == ["red", "green", None, "blue"] * 5

        settings = ServingSettings(max_body_bytes=2000, max_queue=8, max_batch_size=4)
        self.run(app_of(make_predictor(), settings=settings), work)

    def test_a_proxy_with_a_lower_limit(self) -> None:
        async def main() -> None:
            def answer(request: httpx.Request) -> httpx.Response:
                if request.url.path == "/v1/model":
                    limits = {"max_pictures": 256, "max_body_bytes": 10_000}
                    return httpx.Response(200, json={"limits": limits})
                if (count := request.read().count(b"filename=")) > 2:
                    return httpx.Response(413, text="<html>")
                return httpx.Response(200, json={"results": [{"label": "red"}] * count})

            async with AsyncClient(transport=httpx.MockTransport(answer)) as client:
                answers = [answer async for answer in client.classify_many([RED] * 7)]
            assert [answer.path for answer in answers] == [f"picture {at}" for at in range(1, 8)]

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

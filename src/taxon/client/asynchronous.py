"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

import httpx

from taxon.client.requests import (
    DEFAULT_URL,
    Part,
    Patience,
    Picture,
    checked,
    form_of,
    headers_of,
    part_of,
    predictions_of,
    query_of,
    requests_of,
    unreachable,
)
from taxon.core.predictions import Prediction

_REQUESTS = 4  # under way at a time


class AsyncClient:
    """Asks a taxon server; tries again when it has no room. See `Client`, whose arguments it has.

    async with taxon.AsyncClient("http://127.0.0.1:8000") as client:
        print((await client.classify("picture.jpg")).label)
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers_of(api_key), timeout=timeout, transport=transport
        )

    async def classify(
        self, picture: Picture, *, model: str | None = None, top: int | None = None
    ) -> Prediction:
        """Classify one picture; see `Client.classify`."""
        part = await asyncio.to_thread(part_of, picture)
        return (await self._ask([part], model, top))[0]

    async def classify_many(
        self, pictures: Sequence[Picture], *, model: str | None = None, top: int | None = None
    ) -> AsyncIterator[Prediction]:
        """Classify any number of pictures, in order, a few in each request; see `Client.classify`.

        Several requests are under way at a time, so that the server has enough to do.
        """
        running: deque[asyncio.Task[list[Prediction]]] = deque()
        remaining = requests_of(pictures)
        try:
            while True:
                while len(running) < _REQUESTS:
                    parts = await asyncio.to_thread(next, remaining, None)
                    if parts is None:
                        break
                    running.append(asyncio.create_task(self._ask(parts, model, top)))
                if not running:
                    return
                for prediction in await running.popleft():
                    yield prediction
        finally:
            for task in running:
                task.cancel()

    async def model(self, name: str | None = None) -> dict[str, Any]:
        """Return what a model is: its classes, its version, its limits."""
        params = {} if name is None else {"model": name}
        return checked(await self._send("GET", "/v1/model", params=params))

    async def ready(self) -> bool:
        """Whether the server answers and accepts pictures."""
        try:
            return (await self._http.get("/v2/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, parts: list[Part], model: str | None, top: int | None) -> list[Prediction]:
        params, files = query_of(model, top), form_of(parts)
        response = await self._send("POST", "/v1/classify", params=params, files=files)
        return predictions_of(response, parts)

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = str(self._http.base_url)
        attempt = 0
        while True:
            failure, response = None, None
            try:
                response = await self._http.request(method, path, **more)
            except httpx.ConnectError as error:  # nothing was sent: trying again does no harm
                failure = error
            except httpx.TransportError as error:
                raise unreachable(url, error) from error
            pause = self._patience.pause(attempt, response)
            if pause is None:
                if response is None:
                    raise unreachable(url, failure or httpx.TransportError("none")) from failure
                return response
            await asyncio.sleep(pause)
            attempt += 1

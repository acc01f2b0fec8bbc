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
    REQUESTS_TOGETHER,
    Outcome,
    Part,
    Patience,
    Picture,
    answered,
    checked,
    form_of,
    headers_of,
    part_of,
    predictions_of,
    query_of,
    requests_of,
)
from taxon.core.predictions import Prediction


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
        self,
        picture: Picture,
        *,
        model: str | None = None,
        version: str | None = None,
        top: int | None = None,
    ) -> Prediction:
        """Classify one picture; see `Client.classify`."""
        part = await asyncio.to_thread(part_of, picture)
        return (await self._ask([part], query_of(model, version, top)))[0]

    async def classify_many(
        self,
        pictures: Sequence[Picture],
        *,
        model: str | None = None,
        version: str | None = None,
        top: int | None = None,
    ) -> AsyncIterator[Prediction]:
        """Classify any number of pictures, in order; see `Client.classify_many`.

        Several requests are under way at a time, so that the server has enough to do.
        """
        query = query_of(model, version, top)
        remaining = requests_of(pictures, (await self.model(model, version))["limits"])
        running: deque[asyncio.Task[list[Prediction]]] = deque()
        try:
            while True:
                while len(running) < REQUESTS_TOGETHER:
                    parts = await asyncio.to_thread(next, remaining, None)
                    if parts is None:
                        break
                    running.append(asyncio.create_task(self._ask(parts, query)))
                if not running:
                    return
                for prediction in await running.popleft():
                    yield prediction
        finally:
            for task in running:
                task.cancel()

    async def model(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return what a model is: its classes, its version, its limits."""
        return checked(await self._send("GET", "/v1/model", params=query_of(name, version)))

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

    async def _ask(self, parts: list[Part], query: dict[str, str | int]) -> list[Prediction]:
        response = await self._send("POST", "/v1/classify", params=query, files=form_of(parts))
        if response.status_code == 413 and len(parts) > 1:  # a proxy's limit is lower
            middle = len(parts) // 2
            first = await self._ask(parts[:middle], query)
            return first + await self._ask(parts[middle:], query)
        return predictions_of(response, parts)

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        attempt = 0
        while True:
            outcome: Outcome
            try:
                outcome = await self._http.request(method, path, **more)
            except httpx.TransportError as error:
                outcome = error
            pause = self._patience.pause(attempt, outcome)
            if pause is None:
                return answered(outcome, str(self._http.base_url))
            await asyncio.sleep(pause)
            attempt += 1

"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx

from taxon.client.requests import (
    DEFAULT_URL,
    Patience,
    Picture,
    checked,
    files_of,
    headers_of,
    predictions_of,
    unreachable,
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
        self, picture: Picture, *, model: str | None = None, top: int = 5
    ) -> Prediction:
        """Classify one picture; see `Client.classify`."""
        return (await self.classify_many([picture], model=model, top=top))[0]

    async def classify_many(
        self, pictures: Sequence[Picture], *, model: str | None = None, top: int = 5
    ) -> list[Prediction]:
        """Classify several in one request; see `Client.classify_many`."""
        params = {"top": top, **({} if model is None else {"model": model})}
        files = await asyncio.to_thread(files_of, pictures)
        return predictions_of(await self._send("POST", "/v1/classify", params=params, files=files))

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

"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import httpx

from taxon.client.requests import (
    DEFAULT_URL,
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


class Client:
    """Asks a taxon server; tries again when it has no room.

        with taxon.Client("http://127.0.0.1:8000") as client:
            print(client.classify("picture.jpg").label)

    Args:
        url: the server's.
        api_key: where it wants one.
        timeout: seconds for a request.
        patience: how often it tries again.
        transport: for tests; None: the network.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._http = httpx.Client(
            base_url=url, headers=headers_of(api_key), timeout=timeout, transport=transport
        )

    def classify(
        self,
        picture: Picture,
        *,
        model: str | None = None,
        version: str | None = None,
        top: int | None = None,
    ) -> Prediction:
        """Classify one picture: a path, or its bytes.

        Args:
            model: its name, where the server has several.
            version: the model's; None: the newest.
            top: how many of the most probable classes to list; None: the server's default.

        Returns:
            The prediction; `error` is set where the picture cannot be read, or is larger than the
            server takes.

        Raises:
            InputError: there is no such file.
            ServerError: an error of the server; after several attempts where it has no room.
        """
        return self._ask([part_of(picture)], query_of(model, version, top))[0]

    def classify_many(
        self,
        pictures: Sequence[Picture],
        *,
        model: str | None = None,
        version: str | None = None,
        top: int | None = None,
    ) -> Iterator[Prediction]:
        """Classify any number of pictures, in order, a few in each request; see `classify`.

        The server is asked for its limits first, and each request keeps them.
        """
        limits = self.model(model, version)["limits"]
        for parts in requests_of(pictures, limits):
            yield from self._ask(parts, query_of(model, version, top))

    def model(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return what a model is: its classes, its version, its limits."""
        return checked(self._send("GET", "/v1/model", params=query_of(name, version)))

    def ready(self) -> bool:
        """Whether the server answers and accepts pictures."""
        try:
            return self._http.get("/v2/health/ready").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, parts: list[Part], query: dict[str, str | int]) -> list[Prediction]:
        response = self._send("POST", "/v1/classify", params=query, files=form_of(parts))
        if response.status_code == 413 and len(parts) > 1:  # a proxy's limit is lower
            middle = len(parts) // 2
            return self._ask(parts[:middle], query) + self._ask(parts[middle:], query)
        return predictions_of(response, parts)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        attempt = 0
        while True:
            outcome: Outcome
            try:
                outcome = self._http.request(method, path, **more)
            except httpx.TransportError as error:
                outcome = error
            pause = self._patience.pause(attempt, outcome)
            if pause is None:
                return answered(outcome, str(self._http.base_url))
            time.sleep(pause)
            attempt += 1

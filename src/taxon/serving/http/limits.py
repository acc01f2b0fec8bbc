"""Limits on request bodies, enforced while they arrive and never after."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.core.text import whole_number
from taxon.serving.metrics import ServerMetrics
from taxon.serving.settings import ServingSettings

# How long the rest of a refused body is read and thrown away. Closing the connection at once
# would make the operating system reset it, and the client might never see the answer.
_DISCARD_SECONDS = 5.0


async def read_body(request: Request) -> bytes:
    """Return a request's body. `Request.body` would keep it until the answer, and leave memory
    behind that is full of holes where the pieces lay.
    """
    received = bytearray()
    async for piece in request.stream():
        received += piece
    return bytes(received)


class _Refused(Exception):
    def __init__(self, status: int, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.kind = kind  # in the metrics


class BodyLimit:
    """ASGI middleware: refuses a compressed body with 415; one over `max_body_bytes` with 413, by
    its Content-Length where it has one, else as soon as the bytes that came exceed the limit; and
    any with 503 once all bodies in memory together exceed `max_buffered_bytes`.
    """

    def __init__(self, app: ASGIApp, settings: ServingSettings, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = settings.max_body_bytes
        self._max_buffered = settings.max_buffered_bytes
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0
        refusal = None

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._buffered += size
            self._check(received)
            return message

        try:
            headers = Headers(scope=scope)
            _require_plain(headers.get("content-encoding", ""))
            self._check(whole_number(headers.get("content-length", "")) or 0)
            await self._app(scope, counted, send)
        except _Refused as error:
            refusal = error.with_traceback(None)  # its frames hold what came of the body
        finally:
            self._buffered -= received
        if refusal is not None:
            self._metrics.rejected(refusal.kind)
            await _refuse(refusal, scope, receive, send)

    def _check(self, size: int) -> None:
        if size > self._max_body:
            raise _Refused(
                413,
                f"the body has {size} bytes or more; at most {self._max_body} are allowed",
                "body",
            )
        if self._buffered > self._max_buffered:
            raise _Refused(
                503, "the server is busy with other uploads; try again shortly", "uploads"
            )


def _require_plain(encoding: str) -> None:
    """Refuse a compressed body: a small one may become very large."""
    if encoding.strip().lower() not in ("", "identity"):
        raise _Refused(
            415,
            f"content encoding '{encoding[:20]}' is not supported; send the body as it is",
            "encoding",
        )


async def _refuse(refusal: _Refused, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"connection": "close"}
    if refusal.status == 503:
        headers["retry-after"] = "1"
    response = JSONResponse({"error": refusal.reason}, refusal.status, headers)

    async def send_and_discard(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        await _discard(receive)
        await send({"type": "http.response.body", "body": b""})

    await response(scope, receive, send_and_discard)


async def _discard(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while (message := await receive())["type"] == "http.request":
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return

"""Around each request: an id, a line in the log, a count and its time."""

from __future__ import annotations

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.serving.logs import request_id
from taxon.serving.metrics import ServerMetrics
from taxon.serving.requests import HEADER, identity_of, log_request

_NO_ROUTE = (
    "none"  # an address that nobody has: any number of them must not be any number of series
)


class Access:
    """ASGI middleware, the outermost: what is answered here, errors too, is counted."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        identity = identity_of(Headers(scope=scope).get(HEADER, ""))
        token = request_id.set(identity)
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.answered(_route(scope), status, seconds)
            log_request(scope["method"], scope["path"], status, seconds)
            request_id.reset(token)


def _route(scope: Scope) -> str:
    """The address as it was declared, names of models left open."""
    route = scope.get("route")
    return getattr(route, "path", None) or _NO_ROUTE

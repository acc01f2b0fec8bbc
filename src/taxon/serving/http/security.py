"""Who may ask, and what browsers may do with the answers."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.serving.keys import NO_KEY, has_key
from taxon.serving.metrics import ServerMetrics

# A probe has no key, nor has a browser that opens the pages, which ask for one; what these tell is
# no secret.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
OPEN_FOLDER = "/static/"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class ApiKeys:
    """ASGI middleware: 401 without a key, in `Authorization: Bearer KEY` or `X-Api-Key: KEY`."""

    def __init__(self, app: ASGIApp, keys: Iterable[str], metrics: ServerMetrics) -> None:
        self._app = app
        self._keys = tuple(keys)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or self._admits(scope):
            await self._app(scope, receive, send)
            return
        self._metrics.rejected("key")
        answer = JSONResponse({"error": NO_KEY}, 401, {"www-authenticate": "Bearer"})
        await answer(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        return has_key(self._keys, headers.get("authorization", ""), headers.get("x-api-key", ""))


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


class SafeHeaders:
    """ASGI middleware: headers that keep a browser from guessing, framing and telling."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)

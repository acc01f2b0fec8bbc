"""Who may ask, and what browsers may do with the answers."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.core.errors import InputError
from taxon.serving.metrics import ServerMetrics

# A probe has no key, nor has a browser that opens the pages, which ask for one; what these tell is
# no secret.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
OPEN_FOLDER = "/static/"
NO_KEY = "this server wants a key: send it as Authorization: Bearer KEY"
_LEAST_KEY = 16  # characters: shorter ones can be guessed
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def read_api_keys(file: Path) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and lines that begin with # are passed over.

    Raises:
        InputError: the file cannot be read, has no key, or one that is too short.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the keys in {file}: {error}") from error
    stripped = [line.strip() for line in lines]
    keys = tuple(line for line in stripped if line and not line.startswith("#"))
    if not keys:
        raise InputError(f"{file} has no keys; write one a line")
    if not all(key.isascii() for key in keys):
        raise InputError(f"{file} has a key with other letters than those of ASCII")
    if any(len(key) < _LEAST_KEY for key in keys):
        raise InputError(
            f"{file} has a key of fewer than {_LEAST_KEY} characters; make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return keys


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


def has_key(keys: Iterable[str], authorization: str, own: str) -> bool:
    """Whether one of the keys was sent; all are compared each time, in constant time.

    Args:
        authorization, own: the headers `Authorization` and `X-Api-Key`, empty where absent.
    """
    kind, _, bearer = authorization.partition(" ")
    given = bearer.strip() if kind.lower() == "bearer" else own
    found = False
    for key in keys:
        found |= hmac.compare_digest(key.encode(), given.encode())
    return found


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

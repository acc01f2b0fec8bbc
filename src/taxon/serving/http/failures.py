"""What nobody foresaw: logged with the request's id, counted, and answered with 500."""

from __future__ import annotations

import logging

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.serving.metrics import ServerMetrics
from taxon.serving.refusals import refusal_of

_log = logging.getLogger("taxon.serving")


class Failures:
    """ASGI middleware, within those that give an answer its id and headers."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http" or started:  # the server below ends the connection
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            refusal = refusal_of(error, self._metrics)
            await JSONResponse({"error": refusal.text}, refusal.status)(scope, receive, send)

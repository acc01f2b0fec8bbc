"""What a client may do with a connection: headers of bounded size, and no dawdling.

uvicorn bounds neither the headers nor the time that they take, and httptools has no limit of its
own; a client that sends a byte a second would hold a connection for ever ("slow loris").
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taxon.serving.settings import ServingSettings

_RETRY = "retry-after: 1\r\n"
_LEAST_RATE = 10 * 1024  # bytes a second of a body, over the time that a client may take


def guarded_protocol(settings: ServingSettings) -> type[asyncio.Protocol]:
    """Make the protocol of a server with these limits: 408, 431 and 503 as JSON, then the end."""

    class GuardedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._timer: asyncio.TimerHandle | None = None
            self._in_headers = True
            self._header_bytes = self._body_bytes = 0
            if len(self.connections) > settings.max_connections:
                self._refuse(503, "the server has too many connections; try again shortly")
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._in_headers:
                self._header_bytes += len(data)
                if self._timer is None:  # the next request on a connection that was kept
                    self._watch()
            super().data_received(data)
            if self._in_headers and self._header_bytes > settings.max_header_bytes:
                self._refuse_headers()

        def on_headers_complete(self) -> None:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            self._in_headers = False
            if size > settings.max_header_bytes:
                self._refuse_headers()
                return
            self._body_bytes = 0
            self._watch()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self.transport.is_closing():
                return
            self._body_bytes += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unwatch()
            self._in_headers, self._header_bytes = True, 0
            if not self.transport.is_closing():
                super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            self._unwatch()
            before = self._body_bytes
            self._timer = self.loop.call_later(settings.client_seconds, self._look, before)

        def _unwatch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _look(self, before: int) -> None:
            """End the connection unless enough of a body came since the last look."""
            came = self._body_bytes - before
            paused = self.flow is not None and self.flow.read_paused  # the server's own doing
            if not self._in_headers and (paused or came >= _LEAST_RATE * settings.client_seconds):
                self._watch()
                return
            what = "headers" if self._in_headers else "body"
            seconds = f"{settings.client_seconds:g} s"
            self._refuse(408, f"the {what} did not come within {seconds}, or too slowly")

        def _refuse_headers(self) -> None:
            limit = settings.max_header_bytes
            self._refuse(431, f"the headers have more than {limit} bytes, which are allowed")

        def _refuse(self, status: int, text: str) -> None:
            self._unwatch()
            if self.transport.is_closing():
                return
            started = self.cycle is not None and (
                self.cycle.response_started and not self.cycle.response_complete
            )
            if not started:
                self.transport.write(_answer(status, text))
            self.transport.close()

    return GuardedProtocol


def _answer(status: int, text: str) -> bytes:
    body = json.dumps({"error": text}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"{_RETRY if status == 503 else ''}connection: close\r\n\r\n"
    )
    return head.encode() + body

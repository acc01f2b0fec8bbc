"""What a client may do with a connection: headers of bounded size, no dawdling, no riddles.

uvicorn bounds neither the headers nor the time that they take, and httptools has no limit of its
own; a client that sends a byte a second would hold a connection for ever ("slow loris"), and so
would one that never reads its answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from taxon.serving.settings import ServingSettings

_RETRY = "retry-after: 1\r\n"
_LEAST_RATE = 10 * 1024  # bytes a second, over the time that a client may take
# How long a refused client may go on sending. Closing at once would make the operating system
# reset the connection, and the client might never see why.
_LINGER_SECONDS = 1.0
_BODY_HEADERS = (b"content-length", b"transfer-encoding")


def guarded_protocol(
    settings: ServingSettings, rejected: Callable[[str], None]
) -> type[asyncio.Protocol]:
    """Make the protocol of a server with these limits: 400, 408, 431 and 503 as JSON, then the end.

    Args:
        settings: the limits.
        rejected: counts a refused connection, by its reason.
    """

    class GuardedProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._timer: asyncio.TimerHandle | None = None
            self._stalled: asyncio.TimerHandle | None = None
            self._answering: RequestResponseCycle | None = None
            self._in_headers = True
            self._deaf = False  # what else comes is not read
            self._loose_bytes = self._body_bytes = 0
            if len(self.connections) > settings.max_connections:
                text = "the server has too many connections; try again shortly"
                self._refuse(503, text, "connections")
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            if self._deaf or self.transport.is_closing():
                return
            self._unset_keepalive_if_required()
            self._loose_bytes += len(data)
            if self._in_headers and self._timer is None:  # the next request on this connection
                self._watch()
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                pass  # see on_headers_complete
            except httptools.HttpParserError:
                self._refuse_malformed()
            # Headers; or what may follow a body, and has no end either.
            if self._loose_bytes > settings.max_header_bytes:
                self._refuse_headers()

        def on_headers_complete(self) -> None:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > settings.max_header_bytes:
                self._refuse_headers()
                return
            super().on_headers_complete()
            self._in_headers = False
            self._body_bytes = 0
            self._watch()
            if self.parser.should_upgrade():
                self._refuse_upgrade()

        def on_body(self, body: bytes) -> None:
            if self._deaf or self.transport.is_closing():
                return
            self._loose_bytes = 0
            self._body_bytes += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unwatch()
            self._in_headers, self._loose_bytes = True, 0
            if self.cycle is not None and not self.transport.is_closing():
                super().on_message_complete()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
            self._answering = cycle  # `self.cycle` is the one that was read last
            super()._start_asgi_task(cycle, app)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_reader()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            # A short answer fits into the buffer, and closing waits until it is read.
            if self._stalled is None and self.transport.get_write_buffer_size():
                self._watch_reader()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            self._give_up()
            super().connection_lost(exc)
            if self._stalled is not None:
                self._stalled.cancel()

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
            enough = not self._in_headers and came >= _LEAST_RATE * settings.client_seconds
            if paused or enough or self._is_answering():
                self._watch()
                return
            what = "headers" if self._in_headers else "body"
            seconds = f"{settings.client_seconds:g} s"
            self._refuse(408, f"the {what} did not come within {seconds}, or too slowly", "slow")

        def _is_answering(self) -> bool:
            """Whether a request that came before this one has not got its answer."""
            waits = self.cycle is not None and not self.cycle.response_complete
            return bool(self.pipeline) or (self._in_headers and waits)

        def _watch_reader(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
            before = self.transport.get_write_buffer_size()
            seconds = settings.client_seconds
            self._stalled = self.loop.call_later(seconds, self._look_at_reader, before)

        def _look_at_reader(self, before: int) -> None:
            """End the connection unless enough of an answer was read since the last look."""
            self._stalled = None
            left = self.transport.get_write_buffer_size()
            if not left:
                return
            if left > before or before - left >= _LEAST_RATE * settings.client_seconds:
                self._watch_reader()  # it reads; or another answer came on top
                return
            rejected("slow")
            self._give_up()
            self.transport.abort()

        def _give_up(self) -> None:
            """Have the application write no more to this connection, nor wait for it."""
            if self._answering is not None and not self._answering.response_complete:
                self._answering.disconnected = True
                self._answering.message_event.set()

        def _refuse_headers(self) -> None:
            limit = settings.max_header_bytes
            text = f"the headers have more than {limit} bytes, which are allowed"
            self._refuse(431, text, "headers")

        def _refuse_malformed(self) -> None:
            if self._in_headers and self._is_answering():
                # Not the answer to the requests before it, which get theirs.
                rejected("malformed")
                self._close_after_answer()
                return
            self._refuse(400, "this is no HTTP/1.1 request", "malformed")

        def _refuse_upgrade(self) -> None:
            """A request to speak another protocol is answered in this one, as HTTP has it; but the
            parser gives no body of it, and nothing that comes after it.
            """
            if any(name in _BODY_HEADERS and value != b"0" for name, value in self.headers):
                text = "this server speaks HTTP/1.1 alone; send it without the header Upgrade"
                self._refuse(400, text, "malformed")
                return
            self._close_after_answer()

        def _close_after_answer(self) -> None:
            self._deaf = True
            self.cycle.keep_alive = False

        def _refuse(self, status: int, text: str, reason: str) -> None:
            if self._deaf or self.transport.is_closing():
                return
            self._unwatch()
            self._deaf = True
            rejected(reason)
            began = self.cycle is not None and (
                self.cycle.response_started and not self.cycle.response_complete
            )
            if began or self.pipeline:  # then it would not be taken for the answer to this
                self._give_up()
                self.transport.close()
                return
            self._give_up()
            self.transport.write(_answer(status, text))
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

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

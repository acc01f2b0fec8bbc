"""The gRPC server: around each call an id, a key, a deadline, a count and the errors' statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from taxon.core.errors import InputError
from taxon.serving.computing.errors import ComputationFailed, DeadlinePassed, Overloaded
from taxon.serving.desk import Desk
from taxon.serving.grpc.schema import MESSAGES, SERVICE
from taxon.serving.grpc.service import METHODS
from taxon.serving.keys import NO_KEY, has_key
from taxon.serving.logs import request_id
from taxon.serving.refusals import BadRequest, NoKey, Refusal, refusal_of
from taxon.serving.requests import HEADER, identity_of, log_request
from taxon.serving.settings import ServingSettings

_log = logging.getLogger("taxon.serving")
_OPEN = ("ServerLive", "ServerReady")  # as their addresses are over HTTP
# Their messages have no fields, and are not waited for: a probe is answered whoever is slow.
_EMPTY = (*_OPEN, "ServerMetadata")
_SUCCESS, _CLIENT_LEFT, _LATE = 200, 499, 504
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_UNCOMPRESSED = 1  # a bit for each algorithm, this one for none
_MOMENT = 0.05  # seconds
_SHOWN = 1000  # characters of an error: what a client sent may stand in it, and trailers are short


class GrpcServer:
    """A server that listens at once, and answers between `start` and `stop`.

    Made in the event loop that it is to run in.

    Args:
        host: an address of this machine, as digits.
        port: 0 takes a free one.

    Attributes:
        desk: the models, limits and metrics.
        port: where it listens.

    Raises:
        InputError: it cannot listen there.
    """

    def __init__(self, desk: Desk, host: str, port: int) -> None:
        self.desk = desk
        settings = desk.settings
        self._server = aio.server(
            handlers=(_Calls(desk),),
            maximum_concurrent_rpcs=settings.max_connections,
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", settings.max_header_bytes),
                ("grpc.server_handshake_timeout_ms", round(settings.client_seconds * 1000)),
                # Else two servers could share the port, and a client would get either.
                ("grpc.so_reuseport", 0),
                # Pictures are compressed already; and some versions of gRPC would unpack any number
                # of bytes before they hold them against the greatest length.
                ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
                # Else megabytes of a message come before anyone has asked for it; see `_Intake`.
                ("grpc.http2.bdp_probe", 0),
            ],
        )
        try:
            self.port: int = self._server.add_insecure_port(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )
        except RuntimeError as error:
            raise InputError(
                f"cannot listen on port {port} of {host} for gRPC; choose another with --grpc-port"
            ) from error

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, and give the calls in flight so long."""
        await self._server.stop(seconds)


class _Intake:
    """Has messages arrive, no more of them at once than memory is meant to hold.

    gRPC does not say how long a message will be. So each one that arrives may be of the greatest
    length, and others wait; what has arrived counts as it is.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._limit = settings.max_buffered_bytes
        self._seconds = settings.client_seconds
        self._arriving = asyncio.Semaphore(self._limit // settings.max_body_bytes)
        self._buffered = 0

    async def message(self, context: Any, deadline: float) -> bytes:
        """Read a call's message; the client has `client_seconds` for it once there is room."""
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout_at(deadline) as limit, self._arriving:
                limit.reschedule(min(deadline, now() + self._seconds))
                message = await context.read()
        except TimeoutError as error:
            raise DeadlinePassed(
                "its time was over before its message had come; once there is room, it may take "
                f"{self._seconds:g} s"
            ) from error
        if message is aio.EOF:
            # Or the call has ended: its message was too long, or the client left. Then it is
            # cancelled in a moment.
            await asyncio.sleep(_MOMENT)
            raise BadRequest("the call has no message; send one")
        return bytes(message)

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Count a message of so many bytes as long as it is needed."""
        self._buffered += size
        try:
            if self._buffered > self._limit:
                raise Overloaded(
                    "the server is busy with other uploads; try again shortly", "uploads"
                )
            yield
        finally:
            self._buffered -= size


class _Calls:
    """What gRPC asks for the handler of each call.

    A method of one message is handled as one of a stream of messages, which is the same to a
    client: so the key is looked at before the message is read, and it is read when there is room.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._intake = _Intake(desk.settings)

    def service(self, details: Any) -> Any:
        """Return the handler of a method; None where it is of another service."""
        service, _, method = details.method.removeprefix("/").partition("/")
        if service != SERVICE:
            return None
        call = self._call if method in METHODS else self._unknown
        return grpc.stream_unary_rpc_method_handler(partial(call, method))

    async def _call(self, method: str, messages: Any, context: Any) -> bytes:
        started = time.perf_counter()
        metadata = dict(context.invocation_metadata() or ())
        identity = identity_of(metadata.get(HEADER, ""))
        token = request_id.set(identity)
        status = _CLIENT_LEFT
        try:
            answer = await self._answer(method, metadata, context)
            context.set_trailing_metadata(((HEADER, identity),))
            status = _SUCCESS
            return answer
        except asyncio.CancelledError:  # by the client, or at its deadline
            left = context.time_remaining()
            if left is not None and left < _MOMENT:
                status = _LATE
                self._desk.metrics.rejected("deadline")
            raise
        except Exception as error:
            refusal = refusal_of(error, self._desk.metrics)
            status = refusal.status
            if status == 500 and not isinstance(error, ComputationFailed):  # logged already
                _log.exception("%s failed", method)
            return await _refuse(context, refusal, identity)
        finally:
            seconds = time.perf_counter() - started
            self._desk.metrics.answered(f"grpc/{method}", status, seconds)
            log_request("GRPC", f"/{SERVICE}/{method}", status, seconds)
            request_id.reset(token)

    async def _answer(self, method: str, metadata: Mapping[str, str], context: Any) -> bytes:
        keys = self._desk.settings.api_keys
        if keys and method not in _OPEN:
            given = metadata.get("authorization", ""), metadata.get("x-api-key", "")
            if not has_key(keys, *given):
                raise NoKey(NO_KEY)
        deadline = self._desk.deadline(context.time_remaining())
        empty = method in _EMPTY
        message = b"" if empty else await self._intake.message(context, deadline)
        with self._intake.held(len(message)):
            answering = METHODS[method](self._desk, _request(method, message), deadline)
            del message  # the request has all of it
            return bytes((await answering).SerializeToString())

    async def _unknown(self, method: str, messages: Any, context: Any) -> bytes:
        text = f"'{method}' is no method of this server; it has {', '.join(METHODS)}"
        return await _refuse(context, Refusal(501, text), identity_of(""))


def _request(method: str, message: bytes) -> Any:
    try:
        return MESSAGES[f"{method}Request"].FromString(message)
    except DecodeError as error:
        raise BadRequest(f"the message is no {method}Request") from error


async def _refuse(context: Any, refusal: Refusal, identity: str) -> bytes:
    """End a call with an error; when to try again stands beside it, in HTTP's and gRPC's terms."""
    trailers = [(HEADER, identity)]
    if refusal.retry_seconds is not None:
        trailers.append(("retry-after", str(refusal.retry_seconds)))
        trailers.append(("grpc-retry-pushback-ms", str(refusal.retry_seconds * 1000)))
    await context.abort(_CODES[refusal.status], refusal.text[:_SHOWN], tuple(trailers))
    raise AssertionError("abort raises")

"""Run the application with uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from taxon.serving.computing.workers import WorkerPool
from taxon.serving.http.app import create_app
from taxon.serving.http.connections import guarded_protocol
from taxon.serving.http.listening import address_of, listen
from taxon.serving.imports import settled_imports
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.table import ModelTable
from taxon.serving.settings import ServingSettings

if TYPE_CHECKING:
    from taxon.serving.grpc import GrpcServer

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
# Longer than load balancers keep theirs: else they would send into a connection that is closing.
_KEEP_ALIVE_SECONDS = 75
_OTHER_FILES = 256  # than connections: models, computing processes, libraries
_log = logging.getLogger("taxon.serving")
_POLL_SECONDS = 0.1


def serve(
    table: ModelTable,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    grpc_port: int | None = None,
    settings: ServingSettings | None = None,
    pool: WorkerPool | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models until SIGINT or SIGTERM; then finish the requests in flight and return.

    On SIGHUP, and each second where what the user named points elsewhere, it looks for changed
    models.

    Args:
        table: the models.
        host: the address to listen on; `0.0.0.0` for all of this machine's.
        port: 0 to 65535; 0 takes a free one.
        grpc_port: the same for the Open Inference Protocol over gRPC; None: it is not served.
        settings: batching and limits; None takes the defaults.
        pool: the processes that compute; None: this one does.
        on_ready: called with the server's URL when requests are accepted; and then, where gRPC is
            served, with `grpc://HOST:PORT`.

    Raises:
        InputError: the address or a port cannot be used.
        MissingDependencyError: `grpc_port` is given, and grpcio or protobuf are not installed.
        TaxonError: a model may not be served.
    """
    settings = settings or ServingSettings()
    _allow_files(settings.max_connections)
    with listen(host, port, "--port") as listener:
        _require_grpc(listener, grpc_port)
        metrics = ServerMetrics()
        app = create_app(table, settings, metrics, pool)
        config = uvicorn.Config(
            app,
            http=guarded_protocol(settings, metrics.rejected),
            loop="auto",  # uvloop, where it is installed
            ws="none",
            lifespan="off",  # `_Server` runs it, so that a model's error reaches the caller
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.shutdown_seconds,
        )
        server = _Server(config, app, table, listener, grpc_port, on_ready)
        with _stopped_by_signals(server), settled_imports():
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it is ready, looks for changed models, and has a gRPC
    server beside it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        table: ModelTable,
        listener: socket.socket,
        grpc_port: int | None,
        on_ready: Callable[[str], None] | None,
    ) -> None:
        super().__init__(config)
        self._models = AsyncExitStack()
        self._app = app
        self._table = table
        self._listener = listener
        self._grpc_port = grpc_port
        self._grpc: GrpcServer | None = None
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._models.enter_async_context(self._app.router.lifespan_context(self._app))
        await super().startup(sockets)
        addresses = [f"http://{address_of(self._listener)}"]
        if self._grpc_port is not None:
            addresses.append(f"grpc://{await self._start_grpc(self._grpc_port)}")
        self._watching = asyncio.create_task(self._table.watch())
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._table.look_again)
        if self._on_ready is not None:
            for address in addresses:
                self._on_ready(address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watching.cancel()
        await asyncio.gather(super().shutdown(sockets), self._stop_grpc())
        if self.force_exit:  # a second signal: nobody waits for what is still computed
            for task in self.server_state.tasks:
                task.cancel()
        await self._models.aclose()

    async def _start_grpc(self, port: int) -> str:
        from taxon.serving.grpc import GrpcServer

        self._grpc = GrpcServer(self._app.state.desk, self._listener.getsockname()[0], port)
        await self._grpc.start()
        return address_of(self._listener, self._grpc.port)

    async def _stop_grpc(self) -> None:
        if self._grpc is None:
            return
        stopping = asyncio.create_task(self._grpc.stop(self.config.timeout_graceful_shutdown or 0))
        while not stopping.done() and not self.force_exit:  # a second signal does not wait
            await asyncio.wait({stopping}, timeout=_POLL_SECONDS)
        if not stopping.done():
            await self._grpc.stop(0)
        await stopping


def _allow_files(connections: int) -> None:
    """Let this process have a file for each connection, as far as the system allows it."""
    if os.name != "posix":
        return
    import resource

    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _log.warning(
            "this process may have %d files open, fewer than %d connections need; raise the limit "
            "(ulimit -n) or lower --max-connections",
            soft,
            connections,
        )


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Make SIGINT and SIGTERM end the server and nothing else.

    uvicorn handles them while it runs, but raises them again afterwards, which would end
    the process by signal; a server that was asked to stop, and did, has succeeded.
    """
    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, server.handle_exit) for number in signals}
    if hasattr(signal, "SIGHUP"):  # would end a server that still opens its models
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_grpc(listener: socket.socket, port: int | None) -> None:
    """Find out what is amiss before the models are opened: a package or the port."""
    if port is None:
        return
    import taxon.serving.grpc  # noqa: F401

    listen(listener.getsockname()[0], port, "--grpc-port").close()

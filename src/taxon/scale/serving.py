"""A Ray Serve application around the server's own: each replica has models, batches and limits.

Ray starts replicas, shares requests out, replaces what dies and adds replicas under load. What a
replica answers, refuses and measures is what `taxon serve` does: it is the same application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taxon.scale.extra import require_ray
from taxon.serving.imports import settled_imports
from taxon.serving.requests import HEADER

if TYPE_CHECKING:
    from ray.serve import Application, Deployment

DEPLOYMENT = "Classifier"  # by this name the Serve config sets its replicas


class NotReady(RuntimeError):
    """A replica has no model that accepts pictures; Ray replaces it."""


class Replica:
    """What one replica of Ray Serve runs.

    Args:
        make_app: makes the application of `taxon.serving.create_app`; called in the replica.
    """

    def __init__(self, make_app: Callable[[], FastAPI]) -> None:
        self._make_app = make_app
        self._closing = AsyncExitStack()

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Open the models, and return what Ray calls with each request.

        Raises:
            TaxonError: a model may not be served; Ray shows it as the state of the deployment.
        """
        app = self._make_app()
        self._table = app.state.desk.table
        # Here and not by Ray, which would say no more than that the start failed.
        await self._closing.enter_async_context(app.router.lifespan_context(app))
        self._closing.enter_context(settled_imports())
        self._watching = asyncio.create_task(self._table.watch())
        return Mounted(app, self._close)

    def check_health(self) -> None:
        """Called by Ray every few seconds.

        Raises:
            NotReady: this replica is to be replaced.
        """
        if not self._table.ready:
            raise NotReady("this replica has no model that accepts pictures")

    async def _close(self) -> None:
        self._watching.cancel()
        await self._closing.aclose()


class Mounted:
    """An ASGI application under a prefix of Ray Serve's: its own paths begin at `/` as ever.

    So what looks at paths (which of them need a key, by what metrics are labelled) looks at the
    same as in `taxon serve`.

    Args:
        close: called at the end of its lifespan; Ray ends it when all requests of a stopping
            replica are answered.
    """

    def __init__(self, app: ASGIApp, close: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":  # there are no websockets
            await send({"type": "websocket.close", "code": 1000})
            return
        prefix = scope.get("root_path", "")
        path = scope["path"].removeprefix(prefix) or "/"

        async def without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)[HEADER]  # Ray's proxy adds it, the same one
            await send(message)

        await self._app({**scope, "root_path": "", "path": path}, receive, without_id)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                await self._close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return


def application(make_app: Callable[[], FastAPI]) -> Application:
    """Make the Ray Serve application; how many replicas it has, and of what, the config says.

    Args:
        make_app: can be found by its name on every node, or a `functools.partial` of such a one.

    Raises:
        MissingDependencyError: Ray Serve is not installed.
    """
    require_ray("serve")
    from ray import serve

    deployment: Deployment = serve.deployment(serve.ingress()(Replica), name=DEPLOYMENT)
    return deployment.bind(make_app)


def own_cores() -> int:
    """Whole cores that Ray gave to this replica, 1 at least: it does not hold a process to them."""
    import ray

    assigned = ray.get_runtime_context().get_assigned_resources()
    return max(1, int(assigned.get("CPU", 1)))


def own_name() -> str:
    """The name by which Ray knows this replica."""
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)

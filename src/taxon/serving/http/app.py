"""The application: all routes around the models of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from taxon.core.versions import taxon_version
from taxon.serving import binary
from taxon.serving.computing.workers import WorkerPool
from taxon.serving.desk import Desk
from taxon.serving.http.access import Access
from taxon.serving.http.documents import documents_router
from taxon.serving.http.errors import install_error_handlers
from taxon.serving.http.failures import Failures
from taxon.serving.http.limits import BodyLimit
from taxon.serving.http.metrics_route import metrics_router
from taxon.serving.http.page import page_router
from taxon.serving.http.repository import repository_router
from taxon.serving.http.security import ApiKeys, SafeHeaders
from taxon.serving.http.v1 import v1_router
from taxon.serving.http.v2 import v2_routers
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.table import ModelTable
from taxon.serving.settings import ServingSettings

_DESCRIPTION = """Image classification over HTTP.

`/v1` is the short way: send pictures, get answers. `/v2` is the Open Inference Protocol, which
other servers and clients speak too. Every error is `{"error": "one sentence"}`; 503 has a
`Retry-After`, and `taxon.Client` heeds it.
"""


def create_app(
    table: ModelTable,
    settings: ServingSettings | None = None,
    metrics: ServerMetrics | None = None,
    pool: WorkerPool | None = None,
) -> FastAPI:
    """Make the ASGI application of a table of models.

    Its lifespan opens and closes the models, so it must be run (uvicorn does).

    Args:
        table: the models.
        settings: batching and limits; None takes the defaults.
        metrics: where to count; None: new ones.
        pool: the processes that compute the models; None: this one does.
    """
    settings = settings or ServingSettings()
    metrics = metrics or ServerMetrics()
    desk = Desk(table, settings, metrics)
    metrics.watch_table(table)
    if pool is not None:
        metrics.watch_pool(pool)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            if pool is not None:
                await pool.start()
                closing.push_async_callback(pool.stop)
            await table.start()
            closing.push_async_callback(table.stop)
            yield

    app = FastAPI(
        title="taxon",
        description=_DESCRIPTION,
        version=taxon_version(),
        lifespan=lifespan,
        # FastAPI's interactive pages load scripts from a CDN; this server must work offline.
        docs_url=None,
        redoc_url=None,
    )
    app.state.desk = desk
    install_error_handlers(app, metrics)
    # The last added is the outermost.
    app.add_middleware(BodyLimit, settings=settings, metrics=metrics)
    if settings.api_keys:
        app.add_middleware(ApiKeys, keys=settings.api_keys, metrics=metrics)
    app.add_middleware(Failures, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                *("authorization", "content-type", "x-api-key", "x-request-id", "x-timeout-ms"),
                binary.HEADER,
            ],
            expose_headers=["server-timing", "retry-after", "x-request-id", binary.HEADER],
        )
    app.add_middleware(SafeHeaders)
    app.add_middleware(Access, metrics=metrics)
    for router in (
        v1_router(desk),
        *v2_routers(desk),
        repository_router(desk),
        metrics_router(metrics),
        documents_router(),
        page_router(),
    ):
        app.include_router(router)
    return app

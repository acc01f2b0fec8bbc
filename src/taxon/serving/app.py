"""The application: all routes around one model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from taxon.core.versions import taxon_version
from taxon.inference import Predictor
from taxon.serving.errors import install_error_handlers
from taxon.serving.limits import BodyLimit
from taxon.serving.page import page_router
from taxon.serving.pipeline import Pipeline
from taxon.serving.settings import ServingSettings
from taxon.serving.v1 import v1_router
from taxon.serving.v2 import v2_router


def create_app(predictor: Predictor, settings: ServingSettings | None = None) -> FastAPI:
    """Make the ASGI application of one model.

    Its lifespan starts and drains the batcher, so it must be run (uvicorn does).

    Args:
        predictor: the model, ready to answer.
        settings: batching and limits; None takes the defaults.
    """
    settings = settings or ServingSettings()
    pipeline = Pipeline(predictor, settings)
    server_version = taxon_version()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await pipeline.start()
        try:
            yield
        finally:
            await pipeline.stop()

    app = FastAPI(
        title=f"taxon: {predictor.spec.name}",
        description="Image classification over REST and the Open Inference Protocol V2.",
        version=server_version,
        lifespan=lifespan,
        # FastAPI's interactive pages load scripts from a CDN; this server must work offline.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, settings=settings)
    install_error_handlers(app)
    app.include_router(v1_router(pipeline))
    app.include_router(v2_router(pipeline, server_version))
    app.include_router(page_router())
    return app

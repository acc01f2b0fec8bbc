"""The routes of the repository of the Open Inference Protocol V2."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from taxon.serving import repository
from taxon.serving.desk import Desk
from taxon.serving.http.errors import documented
from taxon.serving.http.queries import MODEL_NAME


def repository_router(desk: Desk) -> APIRouter:
    """Make the routes under /v2/repository."""
    router = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol V2"])
    errors = documented(
        {
            400: f"model 'clothing': {repository.REFUSED}",
            403: repository.OFF,
            404: "there is no model 'x' where this server looks",
        }
    )

    @router.post(
        "/index",
        response_model=list[repository.Entry],
        responses=documented({}),
        summary="The models that there are",
    )
    async def index() -> Any:
        return repository.entries(desk)

    @router.post(
        "/models/{name}/load",
        response_class=Response,
        responses=errors,
        summary="Open a model's newest state",
    )
    async def load_model(name: str = MODEL_NAME) -> Response:
        await repository.load(desk, name)
        return Response(status_code=200)

    @router.post(
        "/models/{name}/unload",
        response_class=Response,
        responses=errors,
        summary="Close a model",
    )
    async def unload_model(name: str = MODEL_NAME) -> Response:
        await repository.unload(desk, name)
        return Response(status_code=200)

    return router

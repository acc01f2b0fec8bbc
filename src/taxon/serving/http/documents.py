"""`GET /docs`: the interface as a page, drawn from /openapi.json with nothing from elsewhere."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from taxon.serving.http.page import static_file


def documents_router() -> APIRouter:
    """Make the route."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> Response:
        return static_file("docs.html")

    return router

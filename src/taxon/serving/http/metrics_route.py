"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder

from taxon.serving.http.errors import documented
from taxon.serving.metrics import ServerMetrics

_FORMATS = {
    kind: {"schema": {"type": "string"}, "example": 'taxon_queue_depth{model="clothing"} 0.0\n'}
    for kind in ("text/plain", "application/openmetrics-text")
}


def metrics_router(metrics: ServerMetrics) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["Operation"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses=documented({}) | {200: {"content": _FORMATS}},
        summary="What the server measures of itself",
    )
    async def read(request: Request) -> Response:
        try:
            encode, kind = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # what it makes of a version that is none
            encode, kind = choose_encoder("")
        return Response(encode(metrics.registry), media_type=kind)

    return router

"""The routes of the Open Inference Protocol V2 (REST)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from taxon.core.errors import ImageError
from taxon.core.predictions import ImageBatch
from taxon.serving.batcher import Row
from taxon.serving.errors import documented
from taxon.serving.pipeline import Pipeline, Upload
from taxon.serving.protocol import (
    IMAGE_BYTES,
    IMAGES,
    SCOPE,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    TensorMetadata,
    images_of,
    output_names,
    output_tensors,
    parse_request,
    uploads_of,
)

_BINARY_HEADER = "inference-header-content-length"
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx"}  # Triton's word for it
_UNKNOWN_MODEL = {404: "unknown model 'x'; this server has 'clothing'"}


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process answers."""

    live: bool


class Ready(BaseModel):
    """Whether pictures are accepted."""

    ready: bool


class ModelReady(Ready):
    """Whether a model accepts pictures."""

    name: str


def v2_router(pipeline: Pipeline, server_version: str) -> APIRouter:
    """Make the routes under /v2 for one model."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol V2"])

    @router.get("", response_model=ServerMetadata, summary="What this server is")
    async def server_metadata() -> Any:
        return {"name": "taxon", "version": server_version, "extensions": []}

    @router.get("/health/live", response_model=Live, summary="Whether the process answers")
    async def live() -> Any:
        return {"live": True}

    @router.get(
        "/health/ready",
        response_model=Ready,
        responses={503: {"model": Ready, "description": "Starting or stopping"}},
        summary="Whether pictures are accepted",
    )
    async def ready() -> Any:
        return JSONResponse({"ready": pipeline.ready}, 200 if pipeline.ready else 503)

    model_routes = _model_router(pipeline)
    router.include_router(model_routes, prefix="/models/{name}")
    router.include_router(
        model_routes, prefix="/models/{name}/versions/{version}", include_in_schema=False
    )
    return router


def _model_router(pipeline: Pipeline) -> APIRouter:
    """Make the routes of the model, to be mounted with and without a version."""
    spec, settings = pipeline.predictor.spec, pipeline.settings

    def known_model(request: Request, name: str = Path(description="the model's name")) -> None:
        version = request.path_params.get("version", settings.model_version)
        if name != spec.name:
            raise HTTPException(404, f"unknown model '{name}'; this server has '{spec.name}'")
        if version != settings.model_version:
            raise HTTPException(
                404, f"model '{name}' has no version '{version}'; it has '{settings.model_version}'"
            )

    router = APIRouter(dependencies=[Depends(known_model)])

    @router.get(
        "",
        response_model=ModelMetadata,
        responses=documented(_UNKNOWN_MODEL),
        summary="The model's inputs and outputs",
    )
    async def model_metadata() -> Any:
        return _metadata(pipeline)

    @router.get(
        "/ready",
        response_model=ModelReady,
        responses=documented(_UNKNOWN_MODEL),
        summary="Whether the model accepts pictures",
    )
    async def model_ready() -> Any:
        answer = {"name": spec.name, "ready": pipeline.ready}
        return JSONResponse(answer, 200 if pipeline.ready else 503)

    _add_infer(router, pipeline)
    return router


def _add_infer(router: APIRouter, pipeline: Pipeline) -> None:
    spec, settings = pipeline.predictor.spec, pipeline.settings
    height, width = pipeline.predictor.image_size
    names = output_names(spec.policy)

    def convert(body: bytes) -> tuple[InferenceRequest, ImageBatch | list[Upload]]:
        parsed, tensor = parse_request(body, names)
        if tensor.name == IMAGES:
            return parsed, images_of(tensor, height, width)
        return parsed, uploads_of(tensor)

    @router.post(
        "/infer",
        response_model=InferenceAnswer,
        response_model_exclude_none=True,
        responses=documented(
            {
                400: "input 'images' has datatype 'FP32'; allowed is 'UINT8'",
                **_UNKNOWN_MODEL,
                413: "the body has 40000000 bytes or more; at most 33554432 are allowed",
                503: "the server is busy (256 of 256 places taken, 1 wanted); try again shortly",
            }
        ),
        summary="Probabilities and logits of prepared or encoded pictures",
        description="One input: `images` (UINT8 [N, 3, H, W], prepared as the model's "
        "preprocessing says) or `image_bytes` (BYTES [N]: the files in base64; the server "
        "prepares them). The binary tensor extension is not supported.",
        openapi_extra={"requestBody": _request_body()},
    )
    async def infer(request: Request) -> Any:
        if _BINARY_HEADER in request.headers:
            raise HTTPException(
                400,
                "the binary tensor extension (Inference-Header-Content-Length) is not "
                "supported; send JSON tensors",
            )
        body = await request.body()
        parsed, pictures = await pipeline.in_thread(lambda: convert(body))
        rows = await _compute(pipeline, pictures)
        answer = {
            "model_name": spec.name,
            "model_version": settings.model_version,
            **({} if parsed.id is None else {"id": parsed.id}),
            "outputs": output_tensors(rows, parsed.outputs, names),
        }
        # A response of its own: checking every float against the model again takes longer
        # than computing them.
        return JSONResponse(answer)


async def _compute(pipeline: Pipeline, pictures: ImageBatch | list[Upload]) -> list[Row]:
    if not isinstance(pictures, list):
        return await pipeline.compute(pictures)
    rows: list[Row] = []
    for row in await pipeline.rows(pictures):
        if isinstance(row, ImageError):  # the protocol has no way to answer the others alone
            raise HTTPException(400, str(row))
        rows.append(row)
    return rows


def _metadata(pipeline: Pipeline) -> ModelMetadata:
    spec, backend = pipeline.predictor.spec, pipeline.predictor.backend.name
    size = [-1, 3, *pipeline.predictor.image_size]
    classes = [-1, len(spec.label_space.names)]
    return ModelMetadata(
        name=spec.name,
        versions=[pipeline.settings.model_version],
        platform=_PLATFORMS.get(backend, backend),
        inputs=[
            TensorMetadata(name=IMAGES, datatype="UINT8", shape=size),
            TensorMetadata(name=IMAGE_BYTES, datatype="BYTES", shape=[-1]),
        ],
        outputs=[
            TensorMetadata(name=name, datatype="FP32", shape=[-1] if name == SCOPE else classes)
            for name in output_names(spec.policy)
        ],
    )


def _request_body() -> dict[str, Any]:
    """The schema of the request, without references: the body is parsed by hand, off the
    event loop, so FastAPI does not list its models among the document's components.
    """
    schema = InferenceRequest.model_json_schema()
    definitions = schema.pop("$defs")

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(entry) for entry in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(definitions[part["$ref"].rpartition("/")[2]])
        return {key: resolved(value) for key, value in part.items()}

    return {"required": True, "content": {"application/json": {"schema": resolved(schema)}}}

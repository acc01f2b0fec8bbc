"""The routes of the Open Inference Protocol V2 (REST), with the binary tensor extension."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from taxon.core.versions import taxon_version
from taxon.serving import binary
from taxon.serving.computing.batch import Row
from taxon.serving.desk import Desk
from taxon.serving.http.errors import documented
from taxon.serving.http.limits import read_body
from taxon.serving.http.queries import MODEL_NAME, deadline_of
from taxon.serving.http.v2_messages import (
    InferenceAnswer,
    InferenceRequest,
    parse_request,
    wants_binary,
)
from taxon.serving.models.served import Served
from taxon.serving.protocol import (
    ModelMetadata,
    chosen_outputs,
    metadata_of,
    output_values,
)

_TAG = "Open Inference Protocol V2"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
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


def v2_routers(desk: Desk) -> list[APIRouter]:
    """Make the routes under /v2: the server's, and those of a model with and without a version.

    Each with its whole prefix: metrics are labelled by the address as a route declares it.
    """
    server = APIRouter(prefix="/v2", tags=[_TAG])
    _add_server(server, desk)
    newest = APIRouter(prefix="/v2/models/{name}", tags=[_TAG])
    versioned = APIRouter(
        prefix="/v2/models/{name}/versions/{version}", tags=[_TAG], include_in_schema=False
    )
    for models in (newest, versioned):
        _add_model(models, desk)
        _add_infer(models, desk)
    return [server, newest, versioned]


def _add_server(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "",
        response_model=ServerMetadata,
        responses=documented({}),
        summary="What this server is",
    )
    async def server_metadata() -> Any:
        return {"name": "taxon", "version": taxon_version(), "extensions": EXTENSIONS}

    @router.get(
        "/health/live",
        response_model=Live,
        responses=documented({}),
        summary="Whether the process answers",
    )
    async def live() -> Any:
        return {"live": True}

    @router.get(
        "/health/ready",
        response_model=Ready,
        responses=documented({}) | {503: {"model": Ready, "description": "Starting or stopping"}},
        summary="Whether pictures are accepted",
    )
    async def ready() -> Any:
        state = desk.table.ready
        return JSONResponse({"ready": state}, 200 if state else 503)


def _add_model(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "",
        response_model=ModelMetadata,
        responses=documented(_UNKNOWN_MODEL),
        summary="The model's inputs and outputs",
    )
    async def model_metadata(request: Request, name: str = MODEL_NAME) -> Any:
        return metadata_of(desk, desk.table.find(name, request.path_params.get("version")))

    @router.get(
        "/ready",
        response_model=ModelReady,
        responses=documented(_UNKNOWN_MODEL)
        | {503: {"model": ModelReady, "description": "Starting or stopping"}},
        summary="Whether the model accepts pictures",
    )
    async def model_ready(request: Request, name: str = MODEL_NAME) -> Any:
        served = desk.table.find(name, request.path_params.get("version"))
        state = served.engine.ready
        return JSONResponse({"name": served.name, "ready": state}, 200 if state else 503)


def _add_infer(router: APIRouter, desk: Desk) -> None:
    @router.post(
        "/infer",
        response_model=InferenceAnswer,
        responses=documented(
            {
                400: "input 'images' has datatype 'FP32'; allowed is 'UINT8'",
                **_UNKNOWN_MODEL,
                413: "the body has 40000000 bytes or more; at most 33554432 are allowed",
                500: "internal error",
                503: "the server is busy (256 of 256 places taken, 1 wanted); try again shortly",
                504: "its time was over before it was computed",
            }
        )
        | {200: {"content": {"application/octet-stream": {"schema": binary.SCHEMA}}}},
        summary="Probabilities and logits of prepared or encoded pictures",
        description="One input: `images` (UINT8 [N, 3, H, W], prepared as the model's "
        "preprocessing says) or `image_bytes` (BYTES [N]: the files, in base64 where they stand in "
        "JSON; the server prepares them). Tensors may follow the JSON as bytes, both ways: the "
        "protocol's binary extension.",
        openapi_extra={"requestBody": _request_body()},
    )
    async def infer(request: Request, name: str = MODEL_NAME) -> Response:
        # Read first: a slow client must not keep a model that was exchanged, nor its time run.
        body = await read_body(request)
        deadline = deadline_of(request, desk)
        async with desk.table.use(name, request.path_params.get("version")) as served:
            declared = request.headers.get(binary.HEADER)
            most = desk.settings.max_queue
            # Numbers in JSON take as long to read as the pictures to compute: off the event loop.
            parsed, pictures = await desk.take_apart(
                len(body), partial(parse_request, body, declared, served, most)
            )
            del body  # what is needed of it is in `pictures`
            rows = await desk.rows(served, pictures, deadline)
            return _response(served, parsed, rows)


def _response(served: Served, parsed: InferenceRequest, rows: list[Row]) -> Response:
    outputs, payload = [], b""
    for name in chosen_outputs((output.name for output in parsed.outputs), served):
        values = output_values(rows, name)
        output: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": "FP32"}
        if wants_binary(parsed, name):
            data = binary.float_bytes(values)
            output["parameters"] = {binary.SIZE: len(data)}
            payload += data
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    answer = {
        "model_name": served.name,
        "model_version": served.version,
        **({} if parsed.id is None else {"id": parsed.id}),
        "outputs": outputs,
    }
    if not payload:
        return JSONResponse(answer)
    header = json.dumps(answer).encode()
    return Response(
        header + payload,
        media_type="application/octet-stream",
        headers={binary.HEADER: str(len(header))},
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

    content = {
        "application/json": {"schema": resolved(schema)},
        "application/octet-stream": {"schema": binary.SCHEMA},
    }
    return {"required": True, "content": content}

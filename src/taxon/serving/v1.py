"""The simple routes: `POST /v1/classify` and `GET /v1/model`."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from taxon.core.labels import Task
from taxon.core.predictions import Scored
from taxon.core.taxonomy import TaxonomyRule
from taxon.serving.errors import documented
from taxon.serving.pipeline import Pipeline, Upload

DEFAULT_TOP = 5
_RAW_NAME = "picture"  # a raw body has no file name
_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": _BINARY}},
                "required": ["files"],
            }
        },
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    },
}


class ModelId(BaseModel):
    """Which model answered."""

    name: str
    version: str
    fingerprint: str


class FileResult(BaseModel):
    """The prediction for one picture, or the error that kept it from one."""

    file: str
    label: str | None
    confidence: float | None
    labels: tuple[str, ...]
    unsure: bool
    out_of_scope: bool
    prediction_set: tuple[str, ...] | None
    taxonomy: tuple[str, ...]
    top: tuple[Scored, ...]
    error: str | None


class Classified(BaseModel):
    """One result a picture, in the order in which they were sent."""

    model: ModelId
    results: list[FileResult]


class InputSize(BaseModel):
    """The model's input in pixels."""

    height: int
    width: int


class Limits(BaseModel):
    """What one request may bring."""

    max_body_bytes: int
    max_pictures: int


class ModelDescription(ModelId):
    """The model that is served.

    `thresholds` (multi-label only) is the probability from which a class is named;
    `abstain_below` the confidence under which an answer is marked unsure (2: every answer is);
    `set_coverage` how often a prediction set holds the true class; `flags_out_of_scope` whether
    pictures of something else are flagged. `taxonomy_rule` (a taxonomy only) says which class is
    named: the `most-probable`, or that of `least-risk`.
    """

    backbone: str
    task: Task
    is_taxonomy: bool
    classes: tuple[str, ...]
    descriptions: dict[str, str]
    input: InputSize
    thresholds: dict[str, float] | None
    abstain_below: float
    set_coverage: float | None
    flags_out_of_scope: bool
    taxonomy_rule: TaxonomyRule | None
    limits: Limits


def v1_router(pipeline: Pipeline) -> APIRouter:
    """Make the routes under /v1."""
    spec = pipeline.predictor.spec
    model = ModelId(
        name=spec.name,
        version=pipeline.settings.model_version,
        fingerprint=spec.fingerprint,
    )
    router = APIRouter(prefix="/v1", tags=["Classify"])

    @router.get("/model", response_model=ModelDescription, summary="The model that is served")
    async def describe_model() -> Any:
        return _description(model, pipeline)

    _add_classify(router, pipeline, model)
    return router


def _add_classify(router: APIRouter, pipeline: Pipeline, model: ModelId) -> None:
    classes = len(pipeline.predictor.spec.label_space.names)
    how_many = Query(
        default=min(DEFAULT_TOP, classes),
        ge=1,
        le=classes,
        description="how many of the most probable classes to list",
    )

    @router.post(
        "/classify",
        response_model=Classified,
        responses=documented(
            {
                400: "cat.txt: not a picture in a format that can be read",
                413: "the body has 40000000 bytes or more; at most 33554432 are allowed",
                415: "content type 'text/plain' is not supported; send multipart/form-data, ...",
                500: "internal error",
                503: "the server is busy (256 of 256 places taken, 1 wanted); try again shortly",
            }
        ),
        summary="Classify one or many pictures",
        description="Send files as multipart/form-data (any field name), or one picture's "
        "bytes as the body. A single picture that cannot be read gives 400; among several "
        "it gets a result whose `error` says why, and the others are answered.",
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def classify(request: Request, response: Response, top: int = how_many) -> Any:
        pictures = await _pictures(request, pipeline.settings.max_queue)
        started = time.perf_counter()
        predictions = await pipeline.classify(pictures, top=top)
        if len(predictions) == 1 and predictions[0].error is not None:
            raise HTTPException(400, f"{predictions[0].path}: {predictions[0].error}")
        # The time without the upload; the page shows it.
        milliseconds = (time.perf_counter() - started) * 1000
        response.headers["Server-Timing"] = f"classify;dur={milliseconds:.1f}"
        return {
            "model": model,
            "results": [
                {"file": prediction.path, **prediction.model_dump(exclude={"path"})}
                for prediction in predictions
            ],
        }


async def _pictures(request: Request, maximum: int) -> list[Upload]:
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form_files(request, maximum)
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        received = f"content type '{declared}'" if declared else "no content type"
        raise HTTPException(
            415,
            f"{received} is not supported; send multipart/form-data with files, or one "
            "picture as image/* or application/octet-stream",
        )
    body = await request.body()
    if not body:
        raise HTTPException(400, "the body is empty; send a picture")
    return [Upload(_RAW_NAME, body)]


async def _form_files(request: Request, maximum: int) -> list[Upload]:
    parser = MultiPartParser(request.headers, request.stream(), max_files=maximum)
    # Never to the disk: the body limit bounds the memory, pictures of users stay out of
    # /tmp, and a container may be read-only.
    parser.spool_max_size = 0
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise HTTPException(
                413, f"more than {maximum} pictures in one request; send them in several"
            ) from error
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(
                400, "the form has no file; send each picture as a part with a file name"
            )
        return [
            Upload(file.filename or f"picture {position}", await file.read())
            for position, file in enumerate(files, start=1)
        ]
    finally:
        await form.close()


def _description(model: ModelId, pipeline: Pipeline) -> ModelDescription:
    spec, settings = pipeline.predictor.spec, pipeline.settings
    labels = spec.label_space
    thresholds = (
        dict(zip(labels.names, spec.policy.thresholds, strict=True))
        if labels.task == "multilabel"
        else None
    )
    height, width = pipeline.predictor.image_size
    return ModelDescription(
        **model.model_dump(),
        backbone=spec.backbone,
        task=labels.task,
        is_taxonomy=labels.is_taxonomy,
        classes=labels.names,
        descriptions=labels.descriptions,
        input=InputSize(height=height, width=width),
        thresholds=thresholds,
        abstain_below=spec.policy.abstain_below,
        set_coverage=None if spec.policy.sets is None else spec.policy.sets.coverage,
        flags_out_of_scope=spec.policy.scope is not None,
        taxonomy_rule=spec.policy.taxonomy_rule if labels.is_taxonomy else None,
        limits=Limits(max_body_bytes=settings.max_body_bytes, max_pictures=settings.max_queue),
    )

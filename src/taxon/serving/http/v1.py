"""The simple routes: classify, the model, its card, drift."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from taxon.core.predictions import Prediction
from taxon.serving.computing.engine import Upload
from taxon.serving.computing.errors import TooMany
from taxon.serving.desk import LARGE, Desk
from taxon.serving.explain import explain_answer
from taxon.serving.http.answers import (
    REQUEST_BODY,
    CardAnswer,
    Classified,
    DriftAnswer,
    ModelDescription,
    Models,
    describe,
    model_id,
)
from taxon.serving.http.errors import documented
from taxon.serving.http.limits import read_body
from taxon.serving.http.queries import deadline_of, parse_query, query_parameters
from taxon.serving.http.uploads import uploads_of
from taxon.serving.models.served import Served

DEFAULT_TOP = 5
MOST_EXPLAINED = 4  # pictures of a request, of 50 computations each
_MODEL = Query(default=None, description="the model's name; needed where there are several")
_VERSION = Query(default=None, description="its version; the newest by default")
_ERRORS = documented(
    {
        400: "cat.txt: not a picture in a format that can be read",
        404: "unknown model 'x'; this server has 'clothing'",
        413: "the body has 40000000 bytes or more; at most 33554432 are allowed",
        415: "content type 'text/plain' is not supported; send multipart/form-data, ...",
        500: "internal error",
        503: "the server is busy (256 of 256 places taken, 1 wanted); try again shortly",
        504: "its time was over before it was computed",
    }
)

_UNKNOWN = documented({404: "unknown model 'x'; this server has 'clothing'"})


def v1_router(desk: Desk) -> APIRouter:
    """Make the routes under /v1."""
    router = APIRouter(prefix="/v1", tags=["Classify"])
    _add_classify(router, desk)
    _add_descriptions(router, desk)
    return router


class ClassifyQuery(BaseModel):
    """The query of `POST /v1/classify`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="the model's name; needed where there are several")
    version: str | None = Field(None, description="its version; the newest by default")
    top: int | None = Field(
        None,
        ge=1,
        description=f"how many of the most probable classes to list; {DEFAULT_TOP} by default",
    )
    explain: bool = Field(
        False,
        description="also say where in the picture the answer comes from: each of 7 x 7 parts is "
        "covered in turn, which takes 50 computations a picture; of "
        f"{MOST_EXPLAINED} pictures at most",
    )
    label: str | None = Field(
        None, description="the class to explain; by default the most probable one"
    )


def _add_classify(router: APIRouter, desk: Desk) -> None:
    # The query is read and the answer is written by hand: what FastAPI does with declared
    # parameters and models takes longer than all of the rest.
    @router.post(
        "/classify",
        response_model=Classified,
        responses=_ERRORS,
        summary="Classify one or many pictures",
        description="Send files as multipart/form-data (any field name), one picture's bytes as "
        "the body, or JSON with base64. A single picture that cannot be read gives 400; among "
        "several it gets a result whose `error` says why, and the others are answered.",
        openapi_extra={"requestBody": REQUEST_BODY, "parameters": query_parameters(ClassifyQuery)},
    )
    async def classify(request: Request) -> Response:
        query = parse_query(ClassifyQuery, request)
        # Read first: a slow client must not keep a model that was exchanged, nor its time run.
        pictures = await _pictures(request, desk)
        deadline = deadline_of(request, desk)
        async with desk.table.use(query.model, query.version) as served:
            top = _within(query.top, served)
            _require_class(query.label, query.explain, served)
            if query.explain:
                _require_few(pictures)
            started = time.perf_counter()
            predictions = await desk.classify(served, pictures, top=top, deadline=deadline)
            if len(predictions) == 1 and predictions[0].error is not None:
                raise HTTPException(400, f"{predictions[0].path}: {predictions[0].error}")
            results = [_result(prediction) for prediction in predictions]
            if query.explain:
                for picture, result in zip(pictures, results, strict=True):
                    if result["error"] is None:
                        found = await explain_answer(
                            served, picture, query.label, deadline, desk.settings.max_queue
                        )
                        result["explanation"] = found
            milliseconds = (time.perf_counter() - started) * 1000
            return Response(
                to_json({"model": model_id(served), "results": results}),
                media_type="application/json",
                # Without the upload; the page shows it.
                headers={"server-timing": f"classify;dur={milliseconds:.1f}"},
            )


def _result(prediction: Prediction) -> dict[str, Any]:
    """The entry of a prediction in the answer."""
    fields: dict[str, Any] = {"file": prediction.path, **vars(prediction), "explanation": None}
    del fields["path"]
    return fields


def _add_descriptions(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "/models",
        response_model=Models,
        responses=documented({}),
        summary="The models that are served",
    )
    async def models() -> Any:
        return {"models": [describe(served, desk.settings) for served in desk.table]}

    @router.get(
        "/model",
        response_model=ModelDescription,
        responses=_UNKNOWN,
        summary="What a model is",
    )
    async def one(model: str | None = _MODEL, version: str | None = _VERSION) -> Any:
        return describe(desk.table.find(model, version), desk.settings)

    @router.get(
        "/drift",
        response_model=DriftAnswer,
        responses=_UNKNOWN,
        summary="How far the latest pictures have moved from those of the calibration",
    )
    async def drift(model: str | None = _MODEL, version: str | None = _VERSION) -> Any:
        served = desk.table.find(model, version)
        if served.drift is None:
            raise HTTPException(
                404,
                f"model '{served.name}' has no reference.json: its folder was written before "
                "there was one, or it is an artefact alone",
            )
        return {"model": model_id(served), "drift": served.drift.report()}

    @router.get(
        "/card",
        response_model=CardAnswer,
        responses=_ERRORS,
        summary="What is written and was measured of a model",
    )
    async def card(model: str | None = _MODEL, version: str | None = _VERSION) -> Any:
        served = desk.table.find(model, version)
        if served.opened.card is None:
            raise HTTPException(
                404,
                f"model '{served.name}' has neither a card nor figures: it is an artefact alone, "
                "or its folder has no README.md and no metrics.json",
            )
        return {"model": model_id(served), "card": served.opened.card}


async def _pictures(request: Request, desk: Desk) -> list[Upload]:
    body = await read_body(request)
    kind, most = request.headers.get("content-type", ""), desk.settings.max_queue
    if len(body) > LARGE:  # taking it apart would hold up the event loop
        return await desk.take_apart(len(body), lambda: uploads_of(kind, body, most))
    return uploads_of(kind, body, most)


def _within(top: int | None, served: Served) -> int:
    classes = len(served.spec.label_space.names)
    if top is None:
        return min(DEFAULT_TOP, classes)
    if top > classes:
        raise HTTPException(
            400, f"query 'top' is '{top}': model '{served.name}' has {classes} classes"
        )
    return top


def _require_few(pictures: Sequence[Upload]) -> None:
    if len(pictures) > MOST_EXPLAINED:
        raise TooMany(
            f"{len(pictures)} pictures; at most {MOST_EXPLAINED} are explained in one request"
        )


def _require_class(label: str | None, explain: bool, served: Served) -> None:
    if label is not None and not explain:
        raise HTTPException(400, "label says which class to explain; send explain=true with it")
    if label is not None and label not in served.spec.label_space.names:
        raise HTTPException(400, f"no class '{label[:60]}'; the classes are in /v1/model")

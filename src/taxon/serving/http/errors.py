"""Every error of the server as `{"error": "one clear sentence"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from taxon.core.text import one_line
from taxon.serving.metrics import ServerMetrics
from taxon.serving.refusals import STATUSES, Refusal, refusal_of

_SHOWN = 60  # characters of a received value that an error repeats
_EXAMPLE = "this server wants a key: send it as Authorization: Bearer KEY"
_LONGEST = 600  # characters of an error: names in it may be a stranger's


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: str


def documented(examples: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return what an operation's `responses` says of errors: status -> an example's text."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {
            "model": ErrorAnswer,
            "content": {"application/json": {"example": {"error": text}}},
        }
        for status, text in examples.items()
    }
    # "default" also keeps FastAPI from documenting its own 422, which this server never gives.
    responses["default"] = {
        "model": ErrorAnswer,
        "description": "Any other error: 401 without a key where the server wants one, 413 or 415 "
        "for a body that it does not take, 503 with Retry-After where it has no room",
        "content": {"application/json": {"example": {"error": _EXAMPLE}}},
    }
    return responses


def install_error_handlers(app: FastAPI, metrics: ServerMetrics) -> None:
    """Make every error JSON, and count it; no traceback leaves the server."""

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(400, _sentence(error.errors()[0]))

    async def on_refusal(request: Request, error: Exception) -> JSONResponse:
        return _refuse(refusal_of(error, metrics))

    for kind in STATUSES:
        app.add_exception_handler(kind, on_refusal)

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(request: Request, error: ClientDisconnect) -> JSONResponse:
        return _answer(499, "the client left")  # nobody reads it; it keeps the log clean


def _refuse(refusal: Refusal) -> JSONResponse:
    retry = refusal.retry_seconds
    headers = None if retry is None else {"Retry-After": str(retry)}
    return _answer(refusal.status, refusal.text, headers)


def _answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"  # the end says what is allowed
    return JSONResponse({"error": one_line(text)}, status, headers)


def _sentence(error: Mapping[str, Any]) -> str:
    place, *names = (str(part) for part in error["loc"])
    received = repr(error.get("input"))
    if len(received) > _SHOWN:
        received = received[:_SHOWN] + "..."
    return f"{place} '{'.'.join(names)}' is {received}: {error['msg'].lower()}"

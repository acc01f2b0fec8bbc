"""What a request says beside its body: queries as models, read by hand on the way that every
picture takes, and the time that it may take.
"""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from taxon.core.text import whole_number
from taxon.serving.desk import Desk
from taxon.serving.refusals import BadRequest

MODEL_NAME = Path(description="the model's name", examples=["clothing"])
TIMEOUT_HEADER = "x-timeout-ms"
Model = TypeVar("Model", bound=BaseModel)


def parse_query(kind: type[Model], request: Request) -> Model:
    """Read a request's query.

    Raises:
        RequestValidationError: a value is not what it may be.
    """
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        ) from error


def query_parameters(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """Return what the OpenAPI document says of the query's parameters."""
    fields = kind.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
        }
        for name, schema in fields.items()
    ]


def deadline_of(request: Request, desk: Desk) -> float:
    """By the event loop's clock, when a request's time is over.

    Raises:
        BadRequest: the header asks for what is no time.
    """
    asked = request.headers.get(TIMEOUT_HEADER)
    if asked is None:
        return desk.deadline()
    milliseconds = whole_number(asked)
    if not milliseconds:
        raise BadRequest(f"{TIMEOUT_HEADER} is '{asked[:20]}'; it must be whole milliseconds")
    return desk.deadline(milliseconds / 1000)

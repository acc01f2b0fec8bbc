"""Queries as models: read by hand on the way that every picture takes."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

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

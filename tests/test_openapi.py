"""The document of the interface: whole, with examples that work, and true of what is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving_apps import MeanColour, app_of, make_predictor

from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs
from taxon.serving import ServingSettings

EXAMPLES = 25  # an operation
ENOUGH = ServingSettings(max_wait_ms=60_000)


class AnyColour(MeanColour):
    """Takes black pictures too: the generator knows of pictures."""

    def run(self, images: ImageBatch) -> Outputs:
        return super().run(np.maximum(images, 1))


def make_app() -> FastAPI:
    return app_of(make_predictor(AnyColour(), name="clothing"), settings=ENOUGH)


# It opens and closes its models around each request.
schema = schemathesis.openapi.from_asgi("/openapi.json", make_app())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(make_app(), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


@schema.parametrize()
@settings(  # the same examples each time: what fails, fails for whoever changed something
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_requests_from_the_document(case: schemathesis.Case) -> None:
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ]
    )


def test_every_operation_says_its_errors(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], path
        responses = operation["responses"]
        assert "default" in responses and "422" not in responses, (path, method)
        for status, response in responses.items():
            assert response["description"], (path, status)
            if status == "default" or (status >= "400" and "ready" not in path):
                (content,) = response["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}
                assert content["example"]["error"], (path, status)
    assert "HTTPValidationError" not in json.dumps(document)


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    names = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text)
    assert names and set(names) <= set(document["components"]["schemas"])
    assert "$defs" not in text


def test_forms_of_a_request(document: dict[str, Any]) -> None:
    classify = document["paths"]["/v1/classify"]["post"]
    assert set(classify["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
        "application/json",
    }
    assert {"200", "400", "413", "415", "503"} <= set(classify["responses"])


def test_every_place_in_an_address_is_a_parameter(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        named = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)


def test_examples_of_requests_work(client: TestClient, document: dict[str, Any]) -> None:
    seen = 0
    for path, method, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        example = body.get("example") or body["schema"]["example"]
        answer = client.request(method, path.replace("{name}", "clothing"), json=example)
        assert answer.status_code == 200, answer.text
        seen += 1
    assert seen == 2


def test_examples_of_answers(client: TestClient, document: dict[str, Any]) -> None:
    """They have what real ones have."""
    schemas = document["components"]["schemas"]
    picture = schemas["Classified"]["example"]
    example = document["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    real = client.post("/v1/classify", json=example["application/json"]["example"]).json()
    require_alike(picture, real)
    require_alike(picture["results"][0], real["results"][0])
    tensors = schemas["InferenceAnswer"]["example"]
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]
    sent = infer["application/json"]["schema"]["example"]
    real = client.post("/v2/models/clothing/infer", json=sent).json()
    require_alike(tensors, real)
    require_alike(tensors["outputs"][0], real["outputs"][0])
    require_alike(schemas["Entry"]["example"], client.post("/v2/repository/index").json()[0])


def require_alike(example: dict[str, Any], real: dict[str, Any]) -> None:
    """The document cannot show what is null."""
    there = {name for name, value in real.items() if value is not None}
    assert there <= set(example) <= set(real)

"""The shapes of the simple routes' answers, for the document and the client."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from taxon.core.labels import Task
from taxon.core.predictions import Scored
from taxon.core.taxonomy import TaxonomyRule
from taxon.serving.explain import Explanation
from taxon.serving.http.uploads import EXAMPLE_BODY
from taxon.serving.models.card import Card
from taxon.serving.models.drift import DriftReport
from taxon.serving.models.served import Served
from taxon.serving.settings import ServingSettings

_JSON = {
    "type": "object",
    "properties": {
        "pictures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "data": {"type": "string", "format": "byte", "description": "base64"},
                },
                "required": ["data"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["pictures"],
    "additionalProperties": False,
}
_BINARY = {"type": "string", "format": "binary"}
REQUEST_BODY = {
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
        "application/json": {"schema": _JSON, "example": EXAMPLE_BODY},
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
    explanation: Explanation | None


class Classified(BaseModel):
    """One result a picture, in the order in which they were sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": {"name": "clothing", "version": "3f6c01d2", "fingerprint": "3f6c01d2..."},
                "results": [
                    {
                        "file": "a.gif",
                        "label": "shirt",
                        "confidence": 0.93,
                        "labels": ["shirt"],
                        "unsure": False,
                        "out_of_scope": False,
                        "prediction_set": ["shirt"],
                        "taxonomy": [],
                        "top": [
                            {"label": "shirt", "probability": 0.93},
                            {"label": "dress", "probability": 0.05},
                        ],
                        "error": None,
                        "explanation": None,
                    }
                ],
            }
        }
    )

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
    named: the `most-probable`, or that of `least-risk`. `watches_drift`: GET /v1/drift answers.
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
    watches_drift: bool
    limits: Limits


class Models(BaseModel):
    """All models, the newest version of each first."""

    models: list[ModelDescription]


class DriftAnswer(BaseModel):
    """What the latest pictures say."""

    model: ModelId
    drift: DriftReport


class CardAnswer(BaseModel):
    """What is written and was measured of a model."""

    model: ModelId
    card: Card


def model_id(served: Served) -> ModelId:
    """Which model it is."""
    return ModelId(name=served.name, version=served.version, fingerprint=served.spec.fingerprint)


def describe(served: Served, settings: ServingSettings) -> ModelDescription:
    """All that a client wants to know of a model."""
    spec = served.spec
    labels, policy = spec.label_space, spec.policy
    thresholds = (
        dict(zip(labels.names, policy.thresholds, strict=True))
        if labels.task == "multilabel"
        else None
    )
    height, width = served.engine.description.image_size
    return ModelDescription(
        **model_id(served).model_dump(),
        backbone=spec.backbone,
        task=labels.task,
        is_taxonomy=labels.is_taxonomy,
        classes=labels.names,
        descriptions=labels.descriptions,
        input=InputSize(height=height, width=width),
        thresholds=thresholds,
        abstain_below=policy.abstain_below,
        set_coverage=None if policy.sets is None else policy.sets.coverage,
        flags_out_of_scope=policy.scope is not None,
        taxonomy_rule=policy.taxonomy_rule if labels.is_taxonomy else None,
        watches_drift=served.drift is not None,
        limits=Limits(max_body_bytes=settings.max_body_bytes, max_pictures=settings.max_queue),
    )

"""The application of the Serve config that `taxon deploy ray` writes, by its import path."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taxon.api.serving import model_table
from taxon.api.serving_models import AUTO, BackendChoice
from taxon.core.errors import ConfigError
from taxon.core.text import one_line
from taxon.scale import serving as replicas
from taxon.serving import ServingSettings, create_app
from taxon.serving.keys import read_api_keys
from taxon.serving.logs import install_logs
from taxon.serving.metrics import ServerMetrics

if TYPE_CHECKING:
    from ray.serve import Application

IMPORT_PATH = f"{__name__}:application"


class RayServing(BaseModel):
    """What replicas are told: the `args` of the Serve config.

    Attributes:
        models: as `taxon serve` takes them; they lie under these paths on every node.
        backend, device: what computes; see `BackendChoice`.
        api_key_file: with the keys, on every node; they do not stand in the config, which all who
            reach the cluster can read.
        settings: of `ServingSettings`, what is not as ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: list[str] = Field(min_length=1)
    backend: str = AUTO
    device: str = "cpu"
    api_key_file: Path | None = None
    settings: dict[str, Any] = {}

    def serving_settings(self) -> ServingSettings:
        """Put the settings together, without keys.

        Raises:
            ConfigError: there is no such setting, or a value is out of range.
        """
        try:
            return ServingSettings(**self.settings)
        except TypeError as error:
            raise ConfigError(f"settings: {error}") from error


def application(arguments: dict[str, Any]) -> Application:
    """Make the application; Ray calls it with the `args` of the config.

    Raises:
        ConfigError: an argument that cannot be.
        MissingDependencyError: Ray Serve is not installed.
    """
    try:
        told = RayServing.model_validate(arguments)
    except ValidationError as error:
        raise ConfigError(f"args of the Serve config: {one_line(str(error))}") from error
    told.serving_settings()
    return replicas.application(partial(_replica_app, told))


def _replica_app(told: RayServing) -> FastAPI:
    """Make the application of one replica; called there."""
    install_logs(as_json=False, access=False)
    settings = told.serving_settings()
    if told.api_key_file is not None:
        settings = replace(settings, api_keys=read_api_keys(told.api_key_file))
    choice = BackendChoice(told.backend, told.device, replicas.own_cores())
    table = model_table(told.models, choice, settings)
    return create_app(table, settings, ServerMetrics({"replica": replicas.own_name()}))

"""Load a configuration: recipe, then a file, then single overrides; the last one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from taxon.config.schema import TrainConfig
from taxon.core.errors import ConfigError, nearest

RECIPES = ("auto", "staged", "probe", "finetune", "scratch")


def load_config(
    recipe: str,
    *,
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> TrainConfig:
    """Put a configuration together.

    Args:
        recipe: `auto`, `staged`, `probe`, `finetune` or `scratch`.
        file: YAML with any of the configuration's keys.
        options: keys from plain command-line options; None values are passed over.
        overrides: `key=value` texts, nested keys with dots (`augment.colour=0.1`).

    Raises:
        ConfigError: unknown recipe or key (with the nearest valid name), impossible value.
    """
    if recipe not in RECIPES:
        allowed = ", ".join(RECIPES)
        raise ConfigError(
            f"unknown recipe '{recipe}'; allowed: {allowed}.{nearest(recipe, RECIPES)}"
        )
    text = resources.files("taxon.config").joinpath(f"recipes/{recipe}.yaml").read_text("utf-8")
    values: dict[str, Any] = {"recipe": recipe, **yaml.safe_load(text)}
    if file is not None:
        values = _merge(values, _require_recipe(read_yaml(file), recipe))
    given = {key: value for key, value in (options or {}).items() if value is not None}
    epochs = given.pop("epochs", None)
    values = _merge(values, given)
    for override in overrides:
        values = _merge(values, _require_recipe(_parse_override(override), recipe))
    config = _validate(values)
    if epochs is not None and epochs < 1:
        raise ConfigError(f"--epochs must be at least 1, received {epochs}")
    if config.total_epochs == 0:
        raise ConfigError("the stages have no epochs; give at least one stage one epoch")
    return config if epochs is None else config.with_total_epochs(epochs)


def with_overrides(
    config: TrainConfig, overrides: Sequence[str], *, only: str | None = None
) -> TrainConfig:
    """Return a configuration with single keys changed.

    Args:
        overrides: `key=value` texts, nested keys with dots.
        only: the part of the configuration that may be changed; None: all.

    Raises:
        ConfigError: an unknown key, an impossible value, or one of another part.
    """
    values: Mapping[str, Any] = config.model_dump(mode="json")
    for override in overrides:
        change = _parse_override(override)
        other = [key for key in change if key != only]
        if only is not None and other:
            raise ConfigError(
                f"'{override}' cannot be changed after the training; only keys of {only} can, "
                f"say {only}.{_keys_at(TrainConfig, [only])[0]}"
            )
        values = _merge(values, change)
    return _validate(values)


def show(config: TrainConfig) -> str:
    """The whole configuration as YAML, as `--config` takes it."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100))


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold keys and values, received {type(values).__name__}")
    return values


def _require_recipe(values: dict[str, Any], recipe: str) -> dict[str, Any]:
    """The stages were read from `recipe`; a key that claims another one would lie."""
    if values.get("recipe", recipe) != recipe:
        raise ConfigError(
            f"the recipe is '{recipe}', but the configuration says '{values['recipe']}'; "
            f"choose it with --recipe {values['recipe']}"
        )
    return values


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set takes key=value, received '{text}' (say augment.colour=0.1)")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value in --set {text} cannot be read") from error
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        if isinstance(old, list) and isinstance(value, Mapping):
            merged[key] = _merge_elements(key, old, value)
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _merge_elements(key: str, old: list[Any], extra: Mapping[str, Any]) -> list[Any]:
    """Change elements of a list by their position, as in `stages.0.epochs=3`."""
    merged = list(old)
    for position, value in extra.items():
        if not str(position).isdecimal() or int(position) >= len(old):
            raise ConfigError(
                f"'{key}.{position}' is no element of '{key}'; allowed: {key}.0 to "
                f"{key}.{len(old) - 1}"
            )
        element = merged[int(position)]
        both = isinstance(element, Mapping) and isinstance(value, Mapping)
        merged[int(position)] = _merge(element, value) if both else value
    return merged


def _validate(values: Mapping[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_at(TrainConfig, first["loc"][:-1])
            name = str(first["loc"][-1])
            raise ConfigError(
                f"unknown key '{place}' in the configuration; allowed here: "
                f"{', '.join(known)}.{nearest(name, known)}"
            ) from None
        received = first.get("input")
        message = first["msg"].removeprefix("Value error, ")
        where = f"'{place}': " if place else ""
        raise ConfigError(f"configuration, {where}{message}; received {received!r}") from None


def _keys_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The field names of the (nested) model at a place in the configuration."""
    for part in place:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(
            (kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)),
            model,
        )
    return sorted(model.model_fields)

"""What the packed modules need of pydantic: frozen classes that are read from JSON and written.

A value must have the type that its annotation says. Limits (`ge`, `lt`, ...) are not checked again:
what is read was written by taxon, with pydantic.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_Model = TypeVar("_Model", bound="BaseModel")
_Check = TypeVar("_Check", bound=Callable[..., Any])
_REQUIRED: Any = object()
ConfigDict = dict


def Field(*, default: Any = _REQUIRED, **_: Any) -> Any:  # noqa: N802 - pydantic's name
    """Return the default of a field; its limits are left aside."""
    return default


def model_validator(*, mode: Literal["after"]) -> Callable[[_Check], _Check]:
    """Mark a method that is called when all fields are set."""

    def mark(check: _Check) -> _Check:
        check.checks_model = True  # type: ignore[attr-defined]
        return check

    return mark


class BaseModel:
    """A frozen class whose fields are its annotations.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """

    model_config: ClassVar[dict[str, Any]] = {}
    field_types: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls)
        cls.field_types = {
            name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar
        }

    def __init__(self, **values: Any) -> None:
        kind = type(self)
        unknown = sorted(values.keys() - kind.field_types.keys())
        if unknown:
            raise ValueError(f"{kind.__name__} has no field '{unknown[0]}'")
        for name, hint in kind.field_types.items():
            value = values.get(name, getattr(kind, name, _REQUIRED))
            if value is _REQUIRED:
                raise ValueError(f"{kind.__name__} lacks the field '{name}'")
            self.__dict__[name] = _convert(hint, value, f"{kind.__name__}.{name}")
        for check in vars(kind).values():
            if getattr(check, "checks_model", False):
                check(self)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    @classmethod
    def model_validate(cls: type[_Model], values: dict[str, Any]) -> _Model:
        """Make one from what JSON holds."""
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__} is made from an object, not from {values!r}")
        return cls(**values)

    def model_dump(self, *, mode: Literal["json"]) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {name: _plain(getattr(self, name)) for name in self.field_types}


def _convert(hint: Any, value: Any, name: str) -> Any:
    """Bring a value of JSON to a type: lists to tuples, objects to classes."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # only ever `X | None`
        kind = next(each for each in arguments if each is not type(None))
        return None if value is None else _convert(kind, value, name)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = (arguments[0],) * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            return tuple(_convert(*pair, name) for pair in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], each, name) for key, each in value.items()}
    if isinstance(hint, type) and origin is None:
        if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
            return value
        if issubclass(hint, BaseModel):
            return hint.model_validate(value)
        if hint is float and type(value) is int:
            return float(value)
    raise ValueError(f"{name} cannot be {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value

"""Reference that is made from the code when the site is built: it cannot be out of date."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_origin

import griffe
import typer
from pydantic import BaseModel
from site_docstrings import one_name_a_line

import taxon
from taxon.cli.main import app
from taxon.config import TrainConfig, load

ROOT = Path(__file__).parents[1]
PYTHON_PAGE = ROOT / "docs" / "reference" / "python.md"


def commands() -> str:
    """Every command with its arguments and options, from the command line itself."""
    group: Any = typer.main.get_command(app)
    parts = [_options(group.params, "Options of `taxon` itself")]
    for name, command in every_command(group):
        parts += [f"## taxon {name}", _prose(command.help), _usage(name, command)]
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        parts.append(_arguments(arguments))
        options = [each for each in command.params if each.param_type_name == "option"]
        panels = dict.fromkeys(each.rich_help_panel for each in options if not each.hidden)
        for panel in panels:
            own = [each for each in options if each.rich_help_panel == panel and not each.hidden]
            parts.append(_options(own, panel or "Options"))
    return "\n\n".join(part for part in parts if part)


def every_command(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by their names, those of groups within it too (`deploy ray`)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def configuration() -> str:
    """Every key of the training configuration, from its schema."""
    schema = TrainConfig.model_json_schema()
    return "\n\n".join(_sections(TrainConfig, "", schema["$defs"]))


def recipes() -> str:
    """The recipes as they are."""
    folder = Path(str(load.__file__)).with_name("recipes")
    return "\n\n".join(
        f"## {path.stem}\n\n```yaml\n{path.read_text(encoding='utf-8')}```"
        for path in sorted(folder.glob("*.yaml"))
    )


def other_names() -> str:
    """Directives for the names of `taxon.__all__` that the page does not name itself."""
    named = set(re.findall(r"^::: taxon\.(\w+)$", PYTHON_PAGE.read_text(), re.MULTILINE))
    left = [name for name in taxon.__all__ if name not in named and not name.startswith("__")]
    return "\n\n".join(f"::: taxon.{name}" for name in left)


def _usage(name: str, command: Any) -> str:
    words = [
        each.metavar if each.required or each.metavar.startswith("[") else f"[{each.metavar}]"
        for each in command.params
        if each.param_type_name == "argument"
    ]
    return f"```text\ntaxon {name} [OPTIONS] {' '.join(words)}".rstrip() + "\n```"


def _arguments(arguments: list[Any]) -> str:
    rows = [[f"`{each.metavar}`", _cell(each.help)] for each in arguments]
    return _table(["Argument", "What it is"], rows)


def _options(options: list[Any], title: str) -> str:
    rows = [
        [
            " ".join([", ".join(f"`{word}`" for word in _words(each)), _value(each)]).strip(),
            _cell(" ".join([each.help or "", _choices(each)])),
            _default(each),
        ]
        for each in options
    ]
    return f"**{title}**\n\n{_table(['Option', 'What it does', 'Default'], rows)}" if rows else ""


def _words(option: Any) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _value(option: Any) -> str:
    """What is typed after it, in a word; nothing after a switch."""
    if option.is_bool_flag:
        return ""
    kinds = {Path: "path", str: "text", int: "number", float: "number"}
    return _cell(option.metavar or kinds.get(option.type_descriptor.annotation, ""))


def _choices(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return ""
    return f"One of {', '.join(f'`{choice.value}`' for choice in kind)}."


def _default(option: Any) -> str:
    """As `--help` says it: a word of its own, the value, or nothing."""
    if option.is_bool_flag:
        return "on" if option.default else "off"
    if isinstance(option.show_default, str):
        return _cell(option.show_default)
    if option.default is None or not option.show_default:
        return ""
    return f"`{getattr(option.default, 'value', option.default)}`"


def _sections(model: type[BaseModel], prefix: str, definitions: dict[str, Any]) -> Iterator[str]:
    """One section a model: its sentence, its keys, then the models within it."""
    text = griffe.Docstring(one_name_a_line(model.__doc__ or "")).parse("google")
    about = next((part.value for part in text if part.kind.value == "text"), "")
    said = {
        each.name: each.description
        for part in text
        if part.kind.value == "attributes"
        for each in part.value
    }
    schema = model.model_json_schema()
    rows, inner = [], []
    for name, field in model.model_fields.items():
        within = _model_of(field.annotation)
        if within is not None:
            inner.append((within, f"{prefix}{name}.{'N.' if _is_list(field.annotation) else ''}"))
            continue
        own = schema["properties"][name]
        default = "" if field.is_required() else f"`{_plain(field.default)}`"
        rows.append([f"`{prefix}{name}`", _cell(said.get(name, "")), _type(own), default])
    title = f"## `{prefix.rstrip('.')}`" if prefix else "## The whole"
    yield f"{title}\n\n{_prose(about)}"
    yield _table(["Key", "What it does", "Values", "Default"], rows)
    for within, name in inner:
        yield from _sections(within, name, definitions)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or a tuple of which it holds."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    words = {"integer": "whole number", "boolean": "`true`, `false`", "null": "`null`"}
    kind = schema.get("type", "value")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {_type(items)}" if items else "list"
    if kind == "object":
        return "mapping"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join(
        [words.get(kind, {"string": "text"}.get(kind, kind)), ", ".join(limits)]
    ).strip()


def _plain(value: Any) -> str:
    if isinstance(value, bool | NoneType):
        return {True: "true", False: "false", None: "null"}[value]
    return "[]" if value == () else str(value)


def _prose(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text or "").strip())


def _cell(text: str | None) -> str:
    """A text within a table: one line, no markup of its own but code."""
    pieces = " ".join((text or "").split()).split("`")
    for at in range(0, len(pieces), 2):  # every other one is code
        pieces[at] = (
            html.escape(pieces[at], quote=False).replace("|", "&#124;").replace("*", "&#42;")
        )
    return "`".join(pieces)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

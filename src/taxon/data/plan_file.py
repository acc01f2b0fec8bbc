"""The plan's file: YAML that people read and edit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taxon.core.errors import DataError, nearest
from taxon.core.files import write_text
from taxon.core.text import one_line
from taxon.data.plan import Drop, Plan, Regroup, Relabel

_KINDS: dict[str, type[BaseModel]] = {"drop": Drop, "relabel": Relabel, "regroup": Regroup}
_EXAMPLES = {
    "drop": "{id: a.jpg}",
    "relabel": "{id: a.jpg, was: [cat], labels: [dog]}",
    "regroup": "{group: scene 1, ids: [a.jpg, b.jpg]}",
}
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")
_LONGEST = 80  # of what is repeated of the file
_NOTHING = "nothing"
_LINE_ENDS = frozenset("\x85\u2028\u2029\r")
_COMMANDS = (
    "taxon split DATA --plan THIS_FILE --out manifest.parquet",
    "taxon train manifest.parquet",
)
_HEADER = """\
# What the audit proposes. Read it, change it, delete what you do not want, then:
{commands}
# A step with `accept: false` is a proposal that you must look at first: it does nothing until you
# write `accept: true`. The pictures themselves are never touched.
"""


class _Dumper(yaml.SafeDumper):
    """Escapes the odd line ends of Unicode, which YAML would read back as spaces."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if _LINE_ENDS & set(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def write_plan(plan: Plan, path: Path, commands: Sequence[str] = _COMMANDS) -> None:
    """Write a plan as YAML with a header that says what to do with it.

    Args:
        commands: that apply it.
    """
    values = {"version": plan.version, **plan.model_dump(mode="json", exclude_defaults=True)}
    body = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    listed = "\n".join(f"#   {one_line(command)}" for command in commands)
    write_text(path, _HEADER.format(commands=listed) + body)


def is_plan(path: Path) -> bool:
    """Whether a file is a plan; one that holds comments alone may be anybody's."""
    try:
        read_plan(path)
        return _parse(path.read_text("utf-8"))[0] is not None
    except DataError:
        return False


class _PlanError(yaml.MarkedYAMLError):
    """What YAML itself would let pass, or end on without naming the place."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that is written twice: YAML would keep the last without a word."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = (key.tag, key.value)
            if name in lines:
                remedy = "keep one of the two, or begin a new step with a dash"
                if key.value in _KINDS:
                    remedy = f"put all its steps into one `{key.value}:` list"
                shown = _shortened(key.value)
                said = f"`{shown}:` is written again, after line {lines[name]}; {remedy}"
                raise _PlanError(said, key.start_mark)
            lines[name] = key.start_mark.line + 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Name the text that looks like a number or a date and is none (say 2024-13-40)."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            said = f"{_shortened(str(node.value))} is no number or date; put it in quotes"
            raise _PlanError(said, node.start_mark) from error


def read_plan(path: Path) -> Plan:
    """Read a plan that `write_plan` wrote and somebody edited.

    Raises:
        DataError: absent, no YAML, or no plan; the message names the place.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; save it with that encoding") from error
    try:
        root, values = _parse(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path}, {_yaml_in_words(error, text)}") from error
    except RecursionError:
        raise DataError(
            f"{path} nests lists or keys too deeply; a plan is as flat as `drop: "
            f"[{_EXAMPLES['drop']}]`: look for brackets that are too many"
        ) from None
    if root is None or values is None:
        return Plan()
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path}, {_in_words(error, root)}") from None


def _parse(text: str) -> tuple[yaml.Node | None, object]:
    """The nodes, which know their lines and what was typed, and the values made of them."""
    loader = _Loader(text)
    root = loader.get_single_node()
    return root, None if root is None else loader.construct_document(root)


def _yaml_in_words(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return (
            f"line {line}: not valid YAML, as it holds the control character "
            f"U+{ord(text[error.position]):04X}; delete it"
        )
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"not valid YAML: {' '.join(str(error).split())}"
    # That a bracket or quote is open shows at the end of the file only: say where it begins.
    is_open = any(word in (error.context or "") for word in ("flow", "quoted"))
    mark = error.context_mark if is_open else error.problem_mark
    place = f"line {mark.line + 1}" if mark else "somewhere"
    if isinstance(error, _PlanError):
        return f"{place}: {error.problem}"
    return (
        f"{place}: not valid YAML ({error.problem}); indent with spaces as the lines around do, "
        "close brackets and quotes, and put quotes around a name that holds `: ` or ` #` or "
        "begins with a special character"
    )


def _in_words(error: ValidationError, root: yaml.Node) -> str:
    """The first thing that is wrong with a plan: where, what was received, what to write."""
    # Where a key is misspelt the right one is missing, too: the misspelt one tells more.
    first = min(error.errors(), key=lambda each: each["type"] not in _UNKNOWN_KEY)
    line, node = _find(root, first["loc"])
    received = _received(first["input"], node)
    if not first["loc"]:
        return (
            f"the whole file: a plan has the keys {', '.join(Plan.model_fields)}, with steps "
            f"below, as in `drop: [{_EXAMPLES['drop']}]`; received {received}"
        )
    key, *inner = first["loc"]
    place = [str(key)]
    for what, part in zip(("step", "key", "entry"), inner, strict=False):
        place.append(f"{what} {part + 1}" if isinstance(part, int) else part)
    return f"line {line} ({_shortened(', '.join(place))}): {_remedy(first, received)}"


def _remedy(error: ErrorDetails, received: str) -> str:
    """What is allowed at a place, and what was received there."""
    key, *inner = error["loc"]
    last, kind = str(error["loc"][-1]), error["type"]
    step, example = _KINDS.get(str(key), Plan), f"`- {_EXAMPLES.get(str(key))}`"
    if kind in _UNKNOWN_KEY:
        allowed = list((step if inner else Plan).model_fields)
        return f"unknown key; allowed: {', '.join(allowed)}.{nearest(last, allowed)}"
    if kind == "missing":
        return f"`{last}` is missing; a step is written as {example}"
    if kind == "model_type":
        return f"a step is written as {example}; received {received}"
    if kind == "tuple_type" and not inner:
        return f"takes a list of steps, each with a dash, as {example}; received {received}"
    if kind == "too_short":
        return f"names no picture; name some, as {example}, or delete the step"
    if kind.startswith("bool"):
        return f"takes true or false; received {received}"
    if kind == "literal_error":
        return f"takes 1, without quotes (`version: 1`); received {received}"
    if kind == "string_too_short" or received == _NOTHING:
        needed = last in step.model_fields and step.model_fields[last].is_required()
        return f"is empty; write a text, or delete the {'step' if needed else 'line'}"
    takes = "one text, or several in brackets" if kind == "tuple_type" else "a text"
    return f"takes {takes}, as {example}; received {received}{_hint(error['input'], received)}"


def _received(value: object, node: yaml.Node | None) -> str:
    """A value as it was typed; what YAML makes of it (10 of 0012) would not be recognised."""
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, str):
        return repr(value[:_LONGEST])
    typed = _shortened(node.value) if isinstance(node, yaml.ScalarNode) else ""
    return typed or (_NOTHING if value is None else "a list")


def _hint(value: object, typed: str) -> str:
    """What to do where YAML takes for something else what was meant as a text."""
    if isinstance(value, dict | list | tuple | set):
        return ""
    kinds = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
    kind = kinds.get(type(value), "a date" if isinstance(value, date) else "something else")
    return f', which YAML reads as {kind}; put it in quotes: "{typed}"'


def _find(root: yaml.Node, place: tuple[int | str, ...]) -> tuple[int, yaml.Node | None]:
    """The line of a place, or of the nearest around it, and the node if it is there."""
    line, node = root.start_mark.line + 1, root
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(node.value[part], node.value[part])]
        else:
            return line, node if isinstance(node, yaml.ScalarNode) else None  # one for a list
        if not found:
            return line, None
        key, node = found[-1]
        line = key.start_mark.line + 1
    return line, node


def _shortened(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]

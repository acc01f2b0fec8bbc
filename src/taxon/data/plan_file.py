"""The plan's file: YAML that people read and edit."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from taxon.core.errors import DataError, nearest
from taxon.core.files import write_text
from taxon.data.plan import Drop, Plan, Regroup, Relabel

_LINE_ENDS = frozenset("\x85\u2028\u2029\r")
_HEADER = """\
# What the audit proposes. Read it, change it, delete what you do not want, then:
#   taxon split DATA --plan THIS_FILE --out manifest.parquet{resplit}
#   taxon train manifest.parquet
# A step with `accept: false` is a proposal that you must look at first: it does nothing until you
# write `accept: true`. The pictures themselves are never touched.
"""


class _Dumper(yaml.SafeDumper):
    """Escapes the odd line ends of Unicode, which YAML would read back as spaces."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if _LINE_ENDS & set(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def write_plan(plan: Plan, path: Path, *, resplit: bool = False) -> None:
    """Write a plan as YAML with a header that says what to do with it.

    Args:
        resplit: the data's own split leaks, so that the header proposes another one.
    """
    values = {"version": plan.version, **plan.model_dump(mode="json", exclude_defaults=True)}
    body = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    write_text(path, _HEADER.format(resplit=" --resplit" if resplit else "") + body)


def read_plan(path: Path) -> Plan:
    """Read a plan that `write_plan` wrote and somebody edited.

    Raises:
        DataError: absent, no YAML, or no plan; the message names the place.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return Plan.model_validate({} if values is None else values)
    except ValidationError as error:
        raise DataError(f"{path}, {_in_words(error)}") from None


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong with a plan, where, and what is allowed there."""
    first = error.errors()[0]
    *outer, last = first["loc"] or ("the whole file",)
    place = ".".join(str(part) for part in first["loc"]) or "the whole file"
    received = f"received {str(first['input'])[:80]!r}"
    kinds: dict[str, type[BaseModel]] = {"drop": Drop, "relabel": Relabel, "regroup": Regroup}
    step = kinds.get(str((*outer, last)[0]), Plan)
    if first["type"] == "extra_forbidden":
        allowed = list((step if outer else Plan).model_fields)
        return f"{place}: unknown key; allowed: {', '.join(allowed)}.{nearest(str(last), allowed)}"
    if first["type"] == "model_type":
        example = ", ".join(
            f"{name}: ..." for name, f in step.model_fields.items() if f.is_required()
        )
        return f"{place}: a step is written as `- {example}`; {received}"
    hint = "; put it in quotes" if first["type"] == "string_type" else ""
    return f"{place}: {first['msg']}; {received}{hint}"

"""Gates: floors and ceilings that figures must keep, so that a script can stop at a bad model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from taxon.core.errors import ConfigError, nearest
from taxon.core.labels import LabelSpace
from taxon.evaluation.summary import LevelFigures, Metrics, SliceFigures
from taxon.metrics import Figure

Kind = Literal["value", "low", "high", "at_most"]
KINDS: dict[str, Kind] = {"value": "value", "low": "low", "high": "high", "at_most": "at_most"}
EVERY = "*"
SLICE = re.compile(r"slices\..+\.(top1|micro_f1|macro_f1|difference)")
EXAMPLE = "top1: 0.85, macro_f1: {value: 0.8, low: 0.75}, calibration.ece: {at_most: 0.05}"
# Of these less is better: a bare number, which is a floor, would let bad models pass.
LESS_IS_BETTER = re.compile(
    r"log_loss|hamming_loss|calibration\.((uncalibrated\.)?(ece|brier|nll)|adaptive_ece|ece_by_chance)"
    r"|selective\.(area|risk)|sets\.size|scope\.flagged|taxonomy\.(mistake_height|average_distance)"
)
ROUNDING = 1e-9  # a figure of 0.85 passes 0.85, however its last bit was rounded


@dataclass(frozen=True)
class Bound:
    """One floor or ceiling.

    Attributes:
        figure: its name in metrics.json, with dots; `*` stands for any class, or whatever else is
            written in its place.
        kind: `value`, the least that the figure may be; `at_most`, the most; `low`, the least that
            the lower end of its interval may be; `high`, the most that the upper end may be.
        limit: in the figure's own unit; shares are fractions.
    """

    figure: str
    kind: Kind
    limit: float


@dataclass(frozen=True)
class GateResult:
    """Whether one figure keeps one bound, and that in words."""

    figure: str
    bound: Bound
    met: bool
    words: str


def read_gates(path: Path) -> tuple[Bound, ...]:
    """Read gates from a YAML file.

    Raises:
        ConfigError: absent, no YAML, a key that is written twice, or no gates.
    """
    try:
        values = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return parse_gates(values, str(path))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice: YAML would keep the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"'{key.value}' is written twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return node


def parse_gates(values: object, place: str = "the gates") -> tuple[Bound, ...]:
    """Understand gates: figure -> its floor, or a mapping of `value`, `low`, `high`, `at_most`.

    Raises:
        ConfigError: something else.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            f"{place} must name figures and their floors, received "
            f"{'nothing' if not values else type(values).__name__}; say: {EXAMPLE}"
        )
    bounds = []
    for figure, wanted in values.items():
        limits = wanted if isinstance(wanted, Mapping) else {"value": wanted}
        if not limits:
            raise ConfigError(f"{place}: '{figure}' has no limit; say: {EXAMPLE}")
        for kind, limit in limits.items():
            if kind not in KINDS:
                raise ConfigError(
                    f"{place}: '{figure}' has the key '{kind}'; allowed: {', '.join(KINDS)} (the "
                    "name of a figure within others is written with dots, as in "
                    "per_class.crack.recall)"
                )
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise ConfigError(
                    f"{place}: the limit of '{figure}' must be a number, received {limit!r}"
                )
            if not math.isfinite(limit):
                raise ConfigError(f"{place}: the limit of '{figure}' must be finite")
            if kind in ("value", "low") and LESS_IS_BETTER.fullmatch(str(figure)):
                raise ConfigError(
                    f"{place}: of '{figure}' less is better, and {limit:g} would be a floor; say "
                    f"{{at_most: {limit:g}}}, or high for the upper end of its interval"
                )
            bounds.append(Bound(str(figure), KINDS[kind], float(limit)))
    return tuple(bounds)


def require_known(bounds: Sequence[Bound], label_space: LabelSpace) -> None:
    """Refuse names that no evaluation of these classes could have, before anything is computed.

    Raises:
        ConfigError: such a name.
    """
    known = list(_possible_names(Metrics, label_space))
    for bound in bounds:
        if not _matching(bound.figure, known) and not SLICE.fullmatch(bound.figure):
            raise ConfigError(
                f"the gate '{bound.figure}' names no figure of metrics.json."
                f"{nearest(bound.figure, known)} Say top1, macro_f1, calibration.ece, "
                "per_class.CLASS.recall or per_class.*.recall"
            )


def check_gates(bounds: Sequence[Bound], metrics: Metrics) -> tuple[GateResult, ...]:
    """Compare figures with their bounds; one that is undefined keeps none."""
    figures = dict(_figures(metrics))
    results = []
    for bound in bounds:
        names = _matching(bound.figure, figures)
        for name in names:
            results.append(_result(name, figures[name], bound))
        if not names:
            words = f"{bound.figure} is not among the figures of this evaluation"
            results.append(GateResult(bound.figure, bound, False, words))
    return tuple(results)


def _matching(name: str, known: Sequence[str] | Mapping[str, Figure]) -> list[str]:
    """The figures of this name; a class of the very name goes before what `*` stands for."""
    if name in known or EVERY not in name:
        return [name] if name in known else []
    pattern = re.compile(".+".join(map(re.escape, name.split(EVERY))))
    return [other for other in known if pattern.fullmatch(other)]


def _result(name: str, figure: Figure, bound: Bound) -> GateResult:
    if figure.value is None:
        return GateResult(name, bound, False, f"{name} is undefined: {figure.reason}")
    what, found = name, figure.value
    if bound.kind in ("low", "high"):
        if figure.ci95 is None:
            why = f" ({figure.reason})" if figure.reason else ""
            return GateResult(name, bound, False, f"{name} has no interval{why}")
        end = "lower" if bound.kind == "low" else "upper"
        what = f"the {end} end of {name}'s interval"
        found = figure.ci95[0 if bound.kind == "low" else 1]
    is_floor = bound.kind in ("value", "low")
    above = found - bound.limit if is_floor else bound.limit - found
    met = above >= -ROUNDING
    relation = ("at least" if met else "below") if is_floor else ("at most" if met else "above")
    words = f"{what} is {found:.6g}, {relation} {bound.limit:g}"
    if not met and is_floor and bound.limit > 1 >= found:
        words += f" (shares are fractions: {bound.limit / 100:g} is {bound.limit:g} %)"
    return GateResult(name, bound, met, words)


def _possible_names(kind: Any, space: LabelSpace, *above: str) -> Iterator[str]:
    """The names of all figures that a type of metrics.json can hold; slices are not among them."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for part in inner:
            yield from _possible_names(part, space, *above)
    elif origin is dict:
        for name in space.names:
            yield from _possible_names(inner[1], space, *above, name)
    elif kind == tuple[LevelFigures, ...]:
        for level in range(space.depth):
            yield from _possible_names(LevelFigures, space, *above, str(level))
    elif kind is Figure:
        yield ".".join(above)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for field, info in kind.model_fields.items():
            yield from _possible_names(info.annotation, space, *above, field)


def _figures(content: object, *above: str) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    if isinstance(content, Figure):
        yield ".".join(above), content
    elif isinstance(content, SliceFigures):
        inner = {**content.figures, "difference": content.difference}
        yield from _figures(inner, *above[:-1], content.column, content.value)
    elif isinstance(content, BaseModel):
        for field in type(content).model_fields:
            yield from _figures(getattr(content, field), *above, field)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _figures(value, *above, str(key))
    elif isinstance(content, tuple):
        for place, value in enumerate(content):
            yield from _figures(value, *above, str(place))

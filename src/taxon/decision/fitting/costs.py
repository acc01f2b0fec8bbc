"""What mistakes cost, as a matrix over the classes, or as thresholds of tags (Elkan 2001)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config.decision import DecisionConfig
from taxon.core.errors import ConfigError, nearest
from taxon.core.labels import LabelSpace
from taxon.core.predictions import FloatArray
from taxon.decision.fitting.part import CalibrationPart
from taxon.decision.fitting.targets import threshold_for

Matrix = tuple[tuple[float, ...], ...]
MOST_CLASSES = 300  # a matrix over more would make decision.json megabytes large
TAG_COSTS = ("missed", "false")
SPREAD = 16.0  # float32 probabilities have logarithms of their ratio up to 104
LEEWAY = 1e-3  # more than float32 loses of such a logarithm


@dataclass(frozen=True)
class CostFit:
    """Fitted costs, a sentence, and whether the target can be kept."""

    costs: Matrix
    note: str
    kept: bool


def cost_matrix(costs: Mapping[str, Mapping[str, float]], label_space: LabelSpace) -> Matrix:
    """Return the costs as a matrix [true class][named class]; not named ones are 1, right ones 0.

    Raises:
        ConfigError: an unknown class, a cost below 0, or too many classes.
    """
    require_few(label_space)
    matrix = _plain(len(label_space.names))
    for true, row in costs.items():
        for named, cost in row.items():
            require_known((true, named), label_space.names, "class")
            _require_cost(cost, f"{true} -> {named}")
            if true == named and cost:
                raise ConfigError(f"a right answer costs 0; received {cost} for {true} -> {named}")
            matrix[label_space.index(true), label_space.index(named)] = cost
    return _as_tuples(matrix)


def tag_thresholds(
    costs: Mapping[str, Mapping[str, float]], label_space: LabelSpace
) -> tuple[float, ...]:
    """Return from which calibrated probability on naming a tag costs less than not naming it.

    Raises:
        ConfigError: an unknown tag, a key other than `missed` and `false`, or a cost that is not
            above 0.
    """
    thresholds = [0.5] * len(label_space.names)
    for name, row in costs.items():
        require_known((name,), label_space.names, "tag")
        require_known(row, TAG_COSTS, "kind of mistake")
        for kind, cost in row.items():
            _require_cost(cost, f"{name}: {kind}", above=True)
        false, missed = row.get("false", 1.0), row.get("missed", 1.0)
        thresholds[label_space.index(name)] = false / (false + missed)
    return tuple(thresholds)


def costs_for_target(
    part: CalibrationPart, probabilities: FloatArray, config: DecisionConfig
) -> CostFit:
    """Return costs by which one class is named as often as a recall or precision asks for.

    Missing the class costs `w` times as much as any other mistake; the class is then named where
    its probability is at least 1 / w of the highest other one.

    Args:
        probabilities: float32 [N, C], calibrated.
    """
    space, name = part.label_space, config.target_class
    assert name is not None  # see `require_decidable`
    position = space.index(name)
    truth = (part.targets == position).astype(np.int64)
    matrix = _plain(len(space.names))
    if not truth.any():
        lacking = f"{part.name} has no picture of '{name}': nothing to fit its target on"
        return CostFit(_as_tuples(matrix), lacking, kept=False)
    score = _lead(probabilities, position)
    found = threshold_for(truth, score, config.target, config.target_value)
    if found.threshold <= 0:
        matrix[:] = 1.0
        matrix[:, position] = 0.0  # naming it alone costs nothing: it always is
        words = found.words
    elif found.threshold > 1:
        matrix[:, position] = 2.0  # naming it costs more than any mistake: it never is
        words = found.words
    else:
        limit = SPREAD * np.log(found.threshold / (1 - found.threshold))
        # A little below, so that the picture that stands on the limit is named.
        ratio = float(np.exp(limit - LEEWAY))
        matrix[position] /= ratio
        words = f"named from {ratio:.3g} times the next class's probability on, {found.words}"
    return CostFit(_as_tuples(matrix), f"'{name}': {words}", found.kept)


def _lead(probabilities: FloatArray, position: int) -> FloatArray:
    """How far a class is before the next one, float32 [N], between 0 and 1 like any score.

    The logarithm of the ratio of the two probabilities, spread over the range so that neither end
    runs into 0 or 1.
    """
    smallest = np.finfo(np.float32).smallest_subnormal
    exact = np.log(np.maximum(probabilities, smallest).astype(np.float64))
    gap = exact[:, position] - np.delete(exact, position, axis=1).max(axis=1)
    return np.asarray(1 / (1 + np.exp(-gap / SPREAD)), np.float32)


def _plain(count: int) -> npt.NDArray[np.float64]:
    return 1.0 - np.eye(count)


def _as_tuples(matrix: npt.NDArray[np.float64]) -> Matrix:
    return tuple(tuple(row) for row in matrix.tolist())


def require_few(label_space: LabelSpace) -> None:
    """Refuse costs over too many classes.

    Raises:
        ConfigError: there are more than 300.
    """
    if len(label_space.names) > MOST_CLASSES:
        raise ConfigError(
            f"costs, and a target for one class, are for at most {MOST_CLASSES} classes, received "
            f"{len(label_space.names)}; abstention (decision.abstain_risk) works with any number"
        )


def require_known(received: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse a name that is none of the known ones.

    Args:
        what: is named, for the error.

    Raises:
        ConfigError: it lists what is allowed.
    """
    allowed = tuple(known)
    for name in received:
        if name not in allowed:
            listed = ", ".join(allowed[:8]) + (", ..." if len(allowed) > 8 else "")
            raise ConfigError(
                f"unknown {what} '{name}'; allowed: {listed}.{nearest(name, allowed)}"
            )


def _require_cost(cost: float, what: str, *, above: bool = False) -> None:
    if not np.isfinite(cost) or cost < 0 or (above and cost == 0):
        least = "above 0" if above else "0 or more"
        raise ConfigError(f"the cost of {what} is {cost}; allowed: {least}")

"""Gates of an evaluation: read before anything is computed, compared at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxon.core.labels import LabelSpace

if TYPE_CHECKING:
    from taxon.evaluation import Metrics
    from taxon.evaluation.gates import Bound, GateResult


def bounds_of(gate: str | Path | Mapping[str, Any] | None, space: LabelSpace) -> tuple[Bound, ...]:
    """Return the bounds of a YAML file or a mapping; none of None.

    Raises:
        ConfigError: not understood, or a figure that no model with these classes has.
    """
    from taxon.evaluation.gates import parse_gates, read_gates, require_known

    if gate is None:
        return ()
    bounds = parse_gates(gate) if isinstance(gate, Mapping) else read_gates(Path(gate))
    require_known(bounds, space)
    return bounds


def with_gates(metrics: Metrics, gates: Sequence[GateResult]) -> Metrics:
    """Write into `about` which gates were met."""
    if not gates:
        return metrics
    said = {
        "passed": all(result.met for result in gates),
        "missed": [result.words for result in gates if not result.met],
        "met": [result.words for result in gates if result.met],
    }
    return metrics.model_copy(update={"about": {**metrics.about, "gates": said}})

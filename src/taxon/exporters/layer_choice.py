"""Which layers bear eight bits: those that do not are kept in float until the answers hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from taxon.bundle import ModelSpec
from taxon.core.errors import CheckFailed
from taxon.exporters.job import Labelled
from taxon.exporters.parity import compare_outputs, run_all
from taxon.exporters.parity_report import ParityReport
from taxon.inference import Backend, Outputs

MOST_GROUPS = 48
PROBE_PICTURES = 48

Build = Callable[[frozenset[str]], Backend]


@dataclass(frozen=True)
class Choice:
    """The layers that stay in float.

    Attributes:
        kept: names of the layers that stay in float; all others have eight bits.
        layers: how many there are in all.
        all_quantised: the comparison with every layer in eight bits.
        chosen: the comparison with the layers that were chosen.
        errors: of each group of layers, the mean difference of probabilities that its eight bits
            alone make; the worst first.
    """

    kept: frozenset[str]
    layers: int
    all_quantised: ParityReport
    chosen: ParityReport
    errors: tuple[tuple[str, float], ...] = ()


def choose_layers(
    layers: Sequence[str],
    build: Build,
    validation: Labelled,
    reference: Outputs,
    spec: ModelSpec,
    *,
    max_drop: float,
    tell: Callable[[str], None],
) -> Choice:
    """Keep as few layers in float as the budget allows.

    If the model with every layer quantised is within the budget, that is the answer. Otherwise
    the error of each layer alone is measured (neighbours together, where there are many), and the
    worst ones are kept in float, as many as are needed: found by bisection.

    Args:
        layers: names in the order of the graph.
        build: makes a backend in which all layers but the given ones have eight bits.
        validation: pictures that the model was not trained on.
        reference: what the float model gives for them.
        max_drop: what macro-F1 may lose, 0 to 1.

    Raises:
        CheckFailed: not even one layer bears it.
    """

    def judge(kept: frozenset[str]) -> ParityReport:
        return compare_outputs(
            reference,
            run_all(build(kept), validation.images),
            list(validation.names),
            spec,
            artefact="eight bits",
            reference="float",
            precision="int8",
            targets=validation.targets,
            max_drop=max_drop,
        )

    first = judge(frozenset())
    if _holds(first):
        return Choice(frozenset(), len(layers), first, first)
    tell(
        f"with all {len(layers)} layers in eight bits {first.changed_decisions} of "
        f"{first.pictures} answers change; looking for the layers that must stay in float"
    )
    groups = _groups(layers)
    errors = _errors_alone(layers, groups, build, validation, reference)
    order = np.argsort(-errors, kind="stable")
    ranking = tuple((_group_name(groups[place]), float(errors[place])) for place in order)

    def kept_of(count: int) -> frozenset[str]:
        return frozenset(name for place in order[:count] for name in groups[place])

    # Invariant: `low` groups in float are too few, `high` are enough.
    low, high, best = 0, len(groups), None
    while high - low > 1:
        middle = (low + high) // 2
        report = judge(kept_of(middle))
        if _holds(report):
            high, best = middle, report
        else:
            low = middle
    if best is None:
        raise CheckFailed(
            f"no layer of {spec.backbone} bears eight bits within the budget: "
            f"{first.changed_decisions} of {first.pictures} answers change, macro-F1 may lose "
            f"{max_drop:.1%}; take a format with 16 bits, or allow more with --max-drop"
        )
    return Choice(kept_of(high), len(layers), first, best, ranking)


def _holds(report: ParityReport) -> bool:
    # Stricter than the artefact is judged: no changes by chance beyond the share.
    allowed = report.allowed_changed * report.pictures
    return report.passed and report.changed_decisions <= allowed


def _groups(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Each layer, or neighbours together where there are many: each group costs a build."""
    count = min(len(layers), MOST_GROUPS)
    return [tuple(layers[i] for i in part) for part in np.array_split(range(len(layers)), count)]


def _errors_alone(
    layers: Sequence[str],
    groups: Sequence[tuple[str, ...]],
    build: Build,
    validation: Labelled,
    reference: Outputs,
) -> np.ndarray:
    """The mean difference of probabilities that each group's eight bits make, float64 [groups]."""
    places = np.linspace(0, len(validation.images) - 1, PROBE_PICTURES).astype(int)
    places = np.unique(places)
    images, expected = validation.images[places], reference.probabilities[places]
    errors = []
    for group in groups:
        backend = build(frozenset(layers) - frozenset(group))
        difference = run_all(backend, images).probabilities - expected
        errors.append(float(np.abs(np.nan_to_num(difference, nan=1.0)).mean()))
    return np.array(errors)


def _group_name(group: tuple[str, ...]) -> str:
    return group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}"

"""Options of the decision policy, as overrides of its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from taxon.core.errors import ConfigError, nearest

PANEL = "Decision policy"
REFIT = "--refit-policy"

RefitPolicy = Annotated[
    bool,
    typer.Option(
        REFIT,
        help="Fit the policy of RUN anew first, on its calibration part; the weights stay.",
        rich_help_panel=PANEL,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="What thresholds are chosen for: f1, recall=0.95, precision=0.9; for one class or "
        "tag: recall=0.95:NAME.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Costs = Annotated[
    Path | None,
    typer.Option(
        help="YAML with what mistakes cost: true class -> named class -> cost, or tag -> missed "
        "and false -> cost.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Abstain = Annotated[
    str | None,
    typer.Option(
        help="Mark answers unsure so that fewer of the others are wrong: risk=0.02, or "
        "risk=0.02,confidence=0.9; none: never.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Coverage = Annotated[
    str | None,
    typer.Option(
        help="How often a prediction set holds the true class, say 0.9; none: no sets.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any key of the policy: decision.out_of_scope=none. May be given several times.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]


def overrides(
    *,
    target: str | None = None,
    costs: Path | None = None,
    abstain: str | None = None,
    coverage: str | None = None,
    more: list[str] | None = None,
) -> list[str]:
    """Return the options as `decision.key=value`; a later one wins.

    Raises:
        ConfigError: an option that cannot be understood.
    """
    found: list[str] = []
    if target is not None and costs is not None:
        raise ConfigError("--target and --costs contradict each other; name one")
    if target is not None:
        found += _target(target)
    if costs is not None:
        found += [*_target("f1"), f"decision.costs={_costs(costs)}"]
    if abstain is not None:
        found += _abstain(abstain)
    if coverage is not None:
        number = "null" if coverage == "none" else _number(coverage, "--coverage")
        found.append(f"decision.set_coverage={number}")
    return found + (more or [])


def _target(text: str) -> list[str]:
    rule, _, name = text.partition(":")
    kind, _, value = rule.partition("=")
    if kind == "f1" and not value and not name:
        goal = "null"
    elif kind in ("recall", "precision") and value:
        goal = _number(value, "--target")
    else:
        raise ConfigError(
            f"--target {text} cannot be understood; allowed: f1, recall=0.95, precision=0.9, or "
            f"for one class recall=0.95:NAME.{nearest(kind, ('f1', 'recall', 'precision'))}"
        )
    return [
        f"decision.target={kind}",
        f"decision.target_value={goal}",
        f"decision.target_class={json.dumps(name) if name else 'null'}",
        "decision.costs=null",
    ]


def _abstain(text: str) -> list[str]:
    if text == "none":
        return ["decision.abstain_risk=null"]
    keys = {"risk": "decision.abstain_risk", "confidence": "decision.abstain_confidence"}
    found = []
    for part in text.split(","):
        key, separator, value = part.strip().partition("=")
        if not separator or key not in keys:
            raise ConfigError(
                f"--abstain {text} cannot be understood; allowed: risk=0.02, "
                "risk=0.02,confidence=0.9, or none"
            )
        found.append(f"{keys[key]}={_number(value, '--abstain')}")
    if "risk" not in text:
        raise ConfigError(f"--abstain {text} names no risk; say risk=0.02,{text}, or none")
    return found


def _costs(file: Path) -> str:
    from taxon.config.load import read_yaml

    return json.dumps(read_yaml(file))


def _number(text: str, option: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        raise ConfigError(f"{option} takes a number between 0 and 1, received '{text}'") from None

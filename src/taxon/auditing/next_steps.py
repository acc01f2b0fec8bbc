"""What to do after reading the page of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from taxon.auditing.next_commands import NextCommands
from taxon.auditing.report import AuditReport
from taxon.auditing.wording import pictures
from taxon.core.text import counted
from taxon.data.plan import Plan


@dataclass(frozen=True)
class NextSteps:
    """What to do, for the page.

    Attributes:
        needed: there is something that should be mended first.
        commands: to copy; they hold the word DATA unless the data are `named`.
        plan: what the plan of all findings says and proposes; empty where it has no step.
        by_hand: how many errors and warnings the plan does not answer, a sentence; or empty.
    """

    needed: bool
    commands: NextCommands
    named: bool
    plan: tuple[str, ...]
    by_hand: str


def next_steps(report: AuditReport, commands: NextCommands | None) -> NextSteps:
    """Put together what follows from the findings.

    Args:
        commands: None where nobody knows how the data are named.
    """
    serious = [finding for finding in report.findings if finding.severity != "info"]
    alone = sum(not finding.plan for finding in serious)
    words = counted(alone, "error or warning has", "errors and warnings have")
    return NextSteps(
        needed=bool(serious),
        commands=commands or NextCommands(resplit=report.leaks),
        named=commands is not None,
        plan=plan_words(report.plan),
        by_hand=f"{words} no step in it: decide yourself." if alone else "",
    )


def plan_words(plan: Plan) -> tuple[str, ...]:
    """What happens as it stands, and what a person must accept first."""
    certain, proposed = _steps(plan, accept=True), _steps(plan, accept=False)
    said = [f"The plan would {certain}."] if certain else []
    if proposed:
        said.append(f"{'It' if certain else 'The plan'} proposes to {proposed}, if you accept.")
    return tuple(said)


def _steps(plan: Plan, *, accept: bool) -> str:
    drop, relabel, regroup = (
        sum(step.accept is accept for step in steps)
        for steps in (plan.drop, plan.relabel, plan.regroup)
    )
    words = [f"leave out {pictures(drop)}"] if drop else []
    words += [f"relabel {pictures(relabel)}"] if relabel else []
    words += [f"keep {counted(regroup, 'group', 'groups')} together"] if regroup else []
    return ", ".join(words)

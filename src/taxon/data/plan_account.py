"""What a plan did, in words."""

from __future__ import annotations

from taxon.core.text import counted
from taxon.data.manifest import Manifest
from taxon.data.plan import Plan


def account(before: Manifest, after: Manifest, plan: Plan) -> str:
    """What `apply_plan` did, with counts, in a sentence; what did nothing has notes of its own."""
    if not plan:
        return "the plan has no step, so it changed nothing"
    old = {record.id: record.marked for record in before.records}
    dropped = len(before) - len(after)
    relabelled = sum(record.marked != old[record.id] for record in after.records)
    named = {name for step in plan.accepted().regroup for name in step.ids}
    groups = {record.group for record in after.records if record.id in named}
    grouped = sum(record.group in groups for record in after.records)
    done = []
    if dropped:
        done.append(f"{counted(dropped, 'picture', 'pictures')} dropped")
    if relabelled:
        done.append(f"{counted(relabelled, 'picture', 'pictures')} relabelled")
    if grouped:
        pictures = counted(grouped, "picture", "pictures")
        done.append(f"{pictures} kept together in {counted(len(groups), 'group', 'groups')}")
    if done:
        return f"the plan was applied: {', '.join(done)}"
    why = "what it asks for is so already" if plan.accepted() else "no step of it is accepted"
    return f"the plan changed nothing: {why}"

"""The plan: what to drop, regroup and relabel, and what a manifest is after that."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from taxon.core.errors import DataError, nearest
from taxon.core.labels import LabelSpace
from taxon.core.text import counted, some
from taxon.data.manifest import Manifest, Record, Skipped
from taxon.data.sources.label_cells import split_marked
from taxon.data.splitting.units import together

_NO_REASON = "dropped by the plan"


def _listed(value: object) -> object:
    """What people leave or write when they edit: nothing is no entry, one text is one entry."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Step(BaseModel):
    """A step; one with `accept` false is a proposal, and does nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: bool = True


class Drop(_Step):
    """Leave a picture out."""

    id: str
    reason: str = ""


class Regroup(_Step):
    """Keep pictures together, in one part of every split."""

    group: str = Field(min_length=1)
    ids: Texts = Field(min_length=1)
    reason: str = ""


class Relabel(_Step):
    """Give a picture other labels; `was` guards against a plan for older labels.

    Of several labels a picture `?tag` is one that is unknown, in both: as it was, and to be.
    """

    id: str
    was: Texts
    labels: Texts
    reason: str = ""


_OfPicture = TypeVar("_OfPicture", Drop, Relabel)


class Plan(BaseModel):
    """Changes to a manifest, in the order drop, relabel, regroup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    drop: Annotated[tuple[Drop, ...], BeforeValidator(_listed)] = ()
    relabel: Annotated[tuple[Relabel, ...], BeforeValidator(_listed)] = ()
    regroup: Annotated[tuple[Regroup, ...], BeforeValidator(_listed)] = ()

    def __bool__(self) -> bool:
        return bool(self.drop or self.relabel or self.regroup)

    def accepted(self) -> Plan:
        """The plan without the steps that are mere proposals."""
        return Plan(
            drop=tuple(step for step in self.drop if step.accept),
            relabel=tuple(step for step in self.relabel if step.accept),
            regroup=tuple(step for step in self.regroup if step.accept),
        )

    def __len__(self) -> int:
        """How many steps it has."""
        return len(self.drop) + len(self.relabel) + len(self.regroup)


def merge_plans(plans: Iterable[Plan]) -> Plan:
    """Join plans: of several steps of one kind on a picture the first wins, an accepted one
    before a proposal; a picture that is dropped for certain is not relabelled."""
    drop: dict[str, Drop] = {}
    relabel: dict[str, Relabel] = {}
    regroup: list[Regroup] = []
    for plan in plans:
        for step in plan.drop:
            _keep_first(drop, step)
        for change in plan.relabel:
            _keep_first(relabel, change)
        regroup.extend(plan.regroup)
    gone = {step.id for step in drop.values() if step.accept}
    kept = tuple(change for change in relabel.values() if change.id not in gone)
    return Plan(drop=tuple(drop.values()), relabel=kept, regroup=tuple(regroup))


def _keep_first(steps: dict[str, _OfPicture], step: _OfPicture) -> None:
    known = steps.setdefault(step.id, step)
    if step.accept and not known.accept:
        steps[step.id] = step


def apply_plan(manifest: Manifest, plan: Plan) -> Manifest:
    """Make the manifest that the plan describes; dropped pictures are listed as skipped.

    Steps that are not accepted do nothing, with a note. A picture that is dropped is not
    relabelled, with a note; of several drops of it the first gives the reason. Groups are joined:
    a step that names a picture of an existing group joins that whole group, and so on. A class
    that loses its last picture leaves the label space, with a note. A plan that was applied before
    changes nothing more.

    Raises:
        DataError: a picture that is not there, a class that is not there, labels that changed
            since the plan was written, two different labels for one picture, or nothing left.
    """
    accepted = plan.accepted()
    known = {record.id: record for record in manifest.records}
    _require_known(manifest, accepted, known)
    dropped: dict[str, str] = {}
    for step in accepted.drop:
        dropped.setdefault(step.id, f"plan: {step.reason}" if step.reason else _NO_REASON)
    relabelled = _relabelled(manifest, plan, known, dropped)
    groups = _merged_groups(manifest, accepted.regroup)
    records = tuple(
        replace(relabelled.get(record.id, record), group=groups.get(record.id, record.group))
        for record in manifest.records
        if record.id not in dropped
    )
    if manifest.records and not records:
        raise DataError(f"the plan drops all {len(manifest)} pictures")
    skipped = tuple(
        Skipped(name, reason, "plan") for name, reason in dropped.items() if name in known
    )
    notes = (*manifest.notes, *_notes_on_idle_steps(plan, known))
    changed = replace(
        manifest,
        records=records,
        skipped=(*manifest.skipped, *skipped),
        notes=tuple(dict.fromkeys(notes)),  # a plan that is applied again says nothing twice
    )
    return _without_empty_classes(manifest, changed)


def _notes_on_idle_steps(plan: Plan, known: Container[str]) -> list[str]:
    """Proposals, and the relabelling of pictures that are dropped: both do nothing."""
    notes = []
    if waiting := len(plan) - len(plan.accepted()):
        steps = counted(waiting, "step is a proposal", "steps are proposals")
        notes.append(f"{steps} of the plan and did nothing (accept: false)")
    drops: dict[str, int] = {}
    for number, step in enumerate(plan.drop, start=1):
        if step.accept and step.id in known:
            drops.setdefault(step.id, number)
    # Not refused: the audit relabels whole classes for certain, and proposes to drop some of them.
    both = [
        f"'{change.id}' (drop, step {drops[change.id]}; relabel, step {number})"
        for number, change in enumerate(plan.relabel, start=1)
        if change.accept and change.id in drops
    ]
    if both:
        more = f" and {len(both) - 1} more" if len(both) > 1 else ""
        notes.append(
            f"the plan both drops and relabels {both[0]}{more}: dropped; to relabel a picture "
            "instead, delete its step under drop"
        )
    return notes


def _require_known(manifest: Manifest, plan: Plan, known: Mapping[str, Record]) -> None:
    named = [step.id for step in plan.drop] + [step.id for step in plan.relabel]
    named += [name for step in plan.regroup for name in step.ids]
    gone = {row.id for row in manifest.skipped}
    for name in named:
        if name not in known and name not in gone:
            raise DataError(
                f"the plan names '{name}', which is not in the data.{nearest(name, known)}"
            )


def _relabelled(
    manifest: Manifest, plan: Plan, known: Mapping[str, Record], dropped: Container[str]
) -> dict[str, Record]:
    changed: dict[str, Record] = {}
    first: dict[str, tuple[int, Relabel]] = {}
    for number, step in enumerate(plan.relabel, start=1):  # as a person counts them in the file
        if not step.accept or step.id in dropped:
            continue
        earlier, other = first.setdefault(step.id, (number, step))
        if set(step.labels) != set(other.labels):
            raise DataError(
                f"the plan relabels '{step.id}' in two ways: to {_words(other.labels)} (relabel, "
                f"step {earlier}) and to {_words(step.labels)} (relabel, step {number}); delete "
                "one of the two steps"
            )
        if step.id in known:
            changed[step.id] = _changed(step, known[step.id], manifest.label_space)
    return changed


def _words(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no label"


def _changed(step: Relabel, record: Record, space: LabelSpace) -> Record:
    if set(step.labels) == set(record.marked):
        return record  # the plan was applied before
    if set(step.was) != set(record.marked):
        raise DataError(
            f"the plan relabels '{step.id}' from {_words(step.was)}, but its "
            f"label now is {', '.join(record.marked) or 'none'}; make the plan anew with "
            "taxon audit --fix"
        )
    wanted = tuple(sorted(set(step.labels)))
    try:
        labels, unknown = split_marked(wanted) if space.task == "multilabel" else (wanted, ())
        space.targets([labels], [unknown])
    except DataError as error:
        raise DataError(f"the plan cannot relabel '{step.id}': {error}") from None
    return replace(record, labels=labels, unknown=unknown)


def _merged_groups(manifest: Manifest, steps: Sequence[Regroup]) -> dict[str, str]:
    """The new group of each picture that a step touches; the first step names what it joins."""
    home = {
        record.id: ("picture", record.id) if record.group is None else ("group", record.group)
        for record in manifest.records
    }
    stands_for = together(
        [("group", step.group), *(home[name] for name in step.ids if name in home)]
        for step in steps
    )
    names: dict[tuple[str, str], str] = {}
    for step in steps:
        names.setdefault(stands_for["group", step.group], step.group)
    return {name: names[stands_for[place]] for name, place in home.items() if place in stands_for}


def _without_empty_classes(before: Manifest, after: Manifest) -> Manifest:
    """Take classes out of the label space that lost their last picture."""
    counts = after.counts()
    lost = [name for name, count in before.counts().items() if count and not counts[name]]
    if not lost:
        return after
    space = after.label_space
    names = [name for name in space.names if name not in lost]
    if len(names) < (2 if space.task == "multiclass" else 1):
        raise DataError(
            f"the plan leaves no picture of {some(lost)}, and with {some(names) or 'no class'} "
            "alone there is nothing to tell apart"
        )
    parents = {node: parent for name in names for node, parent in _branch(space, name)}
    kept = {*names, *parents, *parents.values()}
    descriptions = {node: text for node, text in space.descriptions.items() if node in kept}
    smaller = LabelSpace(
        task=space.task, names=tuple(names), parents=parents, descriptions=descriptions
    )
    note = f"the plan leaves no picture of {some(lost)}: no class is made of it"
    records = tuple(
        replace(record, unknown=tuple(name for name in record.unknown if name not in lost))
        for record in after.records
    )
    return replace(after, records=records, label_space=smaller, notes=(*after.notes, note))


def _branch(space: LabelSpace, name: str) -> list[tuple[str, str]]:
    path = space.path(name)
    return list(zip(path[1:], path[:-1], strict=True))

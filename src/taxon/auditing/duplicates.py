"""Duplicates: equal files, near-duplicates, and the same picture under two labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding
from taxon.auditing.wording import labels_of, pictures
from taxon.core.text import agree, counted
from taxon.data import Record
from taxon.data.plan import Drop, Plan, Regroup, Relabel

Group = Sequence[Record]
# Of copies in several parts, the one that measures stays.
_KEPT_FIRST = {"test": 0, "calibration": 1, "validation": 2, "train": 3, None: 4}


def check_duplicates(evidence: Evidence) -> list[Finding]:
    """Equal files and near-duplicates, and among both those under different labels."""
    equal = equal_files(evidence.records)
    near = near_duplicates(evidence)
    return [
        *_contradicting(equal, evidence),
        *_contradicting_alike(near, evidence),
        *_equal(equal, evidence),
        *_near(near, evidence),
    ]


def equal_files(records: Iterable[Record]) -> list[Group]:
    """Groups of two or more records of the same content."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.sha256].append(record)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(evidence: Evidence) -> list[Group]:
    """Groups of records that look the same, with all their copies."""
    copies: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.records:
        copies[record.sha256].append(record)
    return [
        [copy for position in group for copy in copies[evidence.records[position].sha256]]
        for group in evidence.near
    ]


def regroup(groups: Iterable[Group], reason: str) -> Plan:
    """Keep the pictures of each group together."""
    steps = (
        Regroup(
            group=f"like {group[0].id}", ids=tuple(record.id for record in group), reason=reason
        )
        for group in groups
    )
    return Plan(regroup=tuple(steps))


def ids_of(groups: Iterable[Group]) -> tuple[tuple[str, ...], ...]:
    """The ids of groups of records."""
    return tuple(tuple(record.id for record in group) for group in groups)


def _contradict(one: Record, other: Record) -> bool:
    """Whether one is known to have a class that the other is known not to have."""
    return bool(
        set(one.labels).difference(other.labels, other.unknown)
        or set(other.labels).difference(one.labels, one.unknown)
    )


def differ(group: Group) -> bool:
    """Whether any two contradict each other."""
    named = {label for record in group for label in record.labels}
    return any(named.difference(record.labels, record.unknown) for record in group)


def _first_two(group: Group) -> tuple[Record, Record]:
    """The first two that contradict each other."""
    return next(pair for pair in combinations(group, 2) if _contradict(*pair))


def _equal(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    copies = sum(len(group) - 1 for group in groups)
    if not copies:
        return []
    are = counted(copies, "picture is a copy of another", "pictures are copies of others")
    add, them = agree(copies, "it adds", "they add"), agree(copies, "it", "them")
    return [
        _grouped(
            "equal_files",
            "info",
            groups,
            score=copies / len(evidence.records),
            advice=f"{are}, byte for byte; a split by taxon keeps {agree(copies, 'both', 'them')} "
            f"together, but {add} nothing: leave {them} out.",
            plan=Plan(drop=tuple(_superfluous(groups))),
        )
    ]


def _superfluous(groups: Iterable[Group]) -> Iterable[Drop]:
    """All copies but one; where labels differ, a person decides."""
    for group in groups:
        if not differ(group):
            kept, *others = sorted(
                group, key=lambda record: (_KEPT_FIRST[record.split], len(record.unknown))
            )
            yield from (Drop(id=record.id, reason=f"a copy of {kept.id}") for record in others)


def _near(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    if not groups:
        return []
    count = sum(len(group) for group in groups)
    largest = max(len(group) for group in groups)
    how = "their hashes"
    split = (
        "A split by taxon keeps each group in one part; the plan writes the groups down, so that "
        "they hold for other tools and later splits."
    )
    if evidence.features is not None:
        how = "hashes and features"
        split = (
            "The plan writes the groups down: apply it, as a split without it goes by hashes "
            "alone and finds fewer."
        )
    return [
        _grouped(
            "near_duplicates",
            "info",
            sorted(groups, key=len, reverse=True),
            score=count / len(evidence.records),
            advice=f"{pictures(count)} in {counted(len(groups), 'group', 'groups')} (the largest "
            f"of {largest}) look the same by {how}: often bursts, exposures, edits or mirrored "
            f"copies of one motif. {split} "
            + " ".join(f"{note[:1].upper()}{note[1:]}." for note in evidence.near_notes),
            plan=regroup(groups, "they look the same"),
        )
    ]


def _contradicting(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    groups = [group for group in groups if differ(group)]
    if not groups:
        return []
    one, other = _first_two(groups[0])
    return [
        _grouped(
            "contradicting_labels",
            "error",
            groups,
            score=float(len(groups)),
            advice=f"{pictures(len(groups))} {'occurs' if len(groups) == 1 else 'occur'} under "
            f"different labels (say {one.id}, {labels_of(one)}, and {other.id}, "
            f"{labels_of(other)}, the same file); decide which is right and remove the other: the "
            "plan has a proposal for each.",
            plan=Plan(drop=tuple(_either(groups))),
        )
    ]


def _either(groups: Iterable[Group]) -> Iterable[Drop]:
    """For every file under several labels the proposal to drop it; a person accepts some."""
    for group in groups:
        for record in group:
            others = [other for other in group if _contradict(record, other)]
            also = ", ".join(f"{other.id} as {labels_of(other)}" for other in others)
            reason = f"labelled {labels_of(record)}; the same file is {also}"
            yield Drop(id=record.id, reason=reason, accept=False)


def _to_the_others(groups: Iterable[Group]) -> Iterable[Relabel]:
    """For pictures that differ in label from most that look the same the proposal to join them."""
    for group in groups:
        counts = Counter(record.labels for record in group)
        for record in group:
            others = [(labels, n) for labels, n in counts.most_common() if labels != record.labels]
            if others and others[0][1] >= counts[record.labels]:
                reason = "looks the same as others of that label"
                yield Relabel(
                    id=record.id,
                    was=record.labels,
                    labels=others[0][0],
                    reason=reason,
                    accept=False,
                )


def _contradicting_alike(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    """Near-duplicates under different labels."""
    groups = [group for group in groups if differ(group)]
    if not groups:
        return []
    one, other = _first_two(groups[0])
    tags = evidence.manifest.label_space.task == "multilabel"
    return [
        _grouped(
            "contradicting_near_duplicates",
            "info" if tags else "warning",
            groups,
            score=float(len(groups)),
            advice=f"{counted(len(groups), 'group', 'groups')} of pictures that look the same "
            f"have different labels (say {one.id}, {labels_of(one)}, and {other.id}, "
            f"{labels_of(other)}). Look at them side by side: either a label is wrong, or the "
            "difference is too small for the model to see at its input size.",
            plan=Plan() if tags else Plan(relabel=tuple(_to_the_others(groups))),
        )
    ]


def _grouped(
    check: str,
    severity: str,
    groups: Sequence[Group],
    *,
    score: float,
    advice: str,
    plan: Plan | None = None,
) -> Finding:
    members = [record for group in groups for record in group]
    return Finding.model_validate(
        {
            "check": check,
            "severity": severity,
            "record_ids": tuple(record.id for record in members),
            "details": tuple(labels_of(record) for record in members),
            "groups": ids_of(groups),
            "score": score,
            "advice": advice.strip(),
            "plan": plan or Plan(),
        }
    )

"""The first checks: unreadable pictures, equal files, contradicting labels, class balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from taxon.auditing.finding import Finding
from taxon.data import Manifest, Record

FEW_PICTURES = 20
HIGH_IMBALANCE = 3.0

Check = Callable[[Manifest], list[Finding]]


def run_audit(manifest: Manifest) -> list[Finding]:
    """Run all checks, in order."""
    return [finding for check in CHECKS.values() for finding in check(manifest)]


def unreadable(manifest: Manifest) -> list[Finding]:
    """Pictures that cannot be decoded; they are left out of everything."""
    if not manifest.skipped:
        return []
    first = manifest.skipped[0]
    return [
        Finding(
            check="unreadable",
            severity="warning",
            record_ids=tuple(skipped.id for skipped in manifest.skipped),
            score=float(len(manifest.skipped)),
            advice=f"{len(manifest.skipped)} pictures cannot be read and are left out "
            f"(say {first.id}: {first.reason}); replace or remove them.",
        )
    ]


def equal_files(manifest: Manifest) -> list[Finding]:
    """The same file more than once; kept in one part of the split."""
    groups = [group for group in _by_content(manifest) if len(group) > 1]
    copies = sum(len(group) - 1 for group in groups)
    if not copies:
        return []
    return [
        Finding(
            check="equal_files",
            severity="info",
            record_ids=tuple(record.id for group in groups for record in group),
            score=copies / len(manifest),
            advice=f"{copies} pictures are copies of others, byte for byte; a split by taxon "
            "keeps them together, but they add nothing.",
        )
    ]


def leaked_files(manifest: Manifest) -> list[Finding]:
    """The same file or group on both sides of a split that the data bring."""
    leaked = [
        record
        for group in (*_by_content(manifest), *_by_group(manifest))
        if len({record.split for record in group}) > 1
        for record in group
    ]
    if not leaked:
        return []
    ids = tuple(sorted({record.id for record in leaked}))
    return [
        Finding(
            check="leaked_files",
            severity="error",
            record_ids=ids,
            score=len(ids) / len(manifest),
            advice=f"{len(ids)} pictures (say {ids[0]}) have a copy, or their group, in another "
            "part of the split: scores will be too good. Leave the split column out and taxon "
            "makes a clean one.",
        )
    ]


def contradicting_labels(manifest: Manifest) -> list[Finding]:
    """The same file under different labels."""
    groups = [
        group for group in _by_content(manifest) if len({record.labels for record in group}) > 1
    ]
    if not groups:
        return []
    first = groups[0]
    return [
        Finding(
            check="contradicting_labels",
            severity="error",
            record_ids=tuple(record.id for group in groups for record in group),
            score=float(len(groups)),
            advice=f"{len(groups)} pictures occur under different labels (say {first[0].id} and "
            f"{first[1].id}, the same file); decide which is right and remove the other.",
        )
    ]


def class_balance(manifest: Manifest) -> list[Finding]:
    """Few pictures of a class, or many more of one than of another."""
    counts = {name: count for name, count in manifest.counts().items() if count}
    if not counts:
        return []
    small = {name: count for name, count in counts.items() if count < FEW_PICTURES}
    findings = []
    if small:
        name = min(small, key=lambda key: small[key])
        findings.append(
            Finding(
                check="small_classes",
                severity="warning",
                record_ids=(),
                score=float(small[name]),
                advice=f"{len(small)} classes have fewer than {FEW_PICTURES} pictures (the "
                f"smallest: '{name}' with {small[name]}); their figures will be uncertain.",
            )
        )
    largest, smallest = max(counts, key=lambda k: counts[k]), min(counts, key=lambda k: counts[k])
    ratio = counts[largest] / counts[smallest]
    if ratio >= HIGH_IMBALANCE:
        findings.append(
            Finding(
                check="imbalance",
                severity="warning",
                record_ids=(),
                score=ratio,
                advice=f"'{largest}' has {ratio:.0f} times the pictures of '{smallest}' "
                f"({counts[largest]} and {counts[smallest]}): look at macro-F1, not at top-1.",
            )
        )
    return findings


CHECKS: dict[str, Check] = {
    "unreadable": unreadable,
    "equal_files": equal_files,
    "leaked_files": leaked_files,
    "contradicting_labels": contradicting_labels,
    "class_balance": class_balance,
}


def _by_content(manifest: Manifest) -> list[list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in manifest.records:
        groups[record.sha256].append(record)
    return list(groups.values())


def _by_group(manifest: Manifest) -> list[list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in manifest.records:
        if record.group is not None:
            groups[record.group].append(record)
    return list(groups.values())

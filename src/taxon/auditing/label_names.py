"""Label names: classes that differ only by case, white space or the form of a character."""

from __future__ import annotations

from collections import defaultdict

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding
from taxon.auditing.wording import labels_of
from taxon.core.labels import UNKNOWN_MARK
from taxon.core.text import agree, counted
from taxon.data import Record
from taxon.data.plan import Plan, Relabel
from taxon.data.sources.words import spelling


def check_label_names(evidence: Evidence) -> list[Finding]:
    """Names of classes, and of their parents in a taxonomy, that are one name spelt twice."""
    space = evidence.manifest.label_space
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted({*space.names, *space.parents, *space.parents.values()}):
        spellings[spelling(name)].append(name)
    twice = [names for names in spellings.values() if len(names) > 1]
    if not twice:
        return []
    counts = evidence.manifest.counts()
    better: dict[str, str] = {}
    for names in twice:
        if all(name in counts for name in names):
            best = max(names, key=lambda name: counts[name])
            better.update({name: best for name in names if name != best})
    better |= {f"{UNKNOWN_MARK}{name}": f"{UNKNOWN_MARK}{best}" for name, best in better.items()}
    concerned = [record for record in evidence.records if set(record.marked) & set(better)]
    listed = "; ".join(" and ".join(f"'{name}'" for name in names) for names in twice[:3])
    return [
        Finding(
            check="similar_class_names",
            severity="error",
            record_ids=tuple(record.id for record in concerned),
            details=tuple(labels_of(record) for record in concerned),
            score=float(len(twice)),
            advice=f"{counted(len(twice), 'class is', 'classes are')} spelt in several ways "
            f"({listed}), which makes {agree(len(twice), 'it', 'them')} several classes. The plan "
            "takes the spelling that most pictures have; correct it at the source.",
            plan=Plan(relabel=tuple(_relabel(record, better) for record in concerned)),
        )
    ]


def _relabel(record: Record, better: dict[str, str]) -> Relabel:
    labels = dict.fromkeys(better.get(label, label) for label in record.marked)
    # One spelling may be there and the other unknown: then the tag is there.
    kept = tuple(label for label in labels if label not in {f"{UNKNOWN_MARK}{x}" for x in labels})
    return Relabel(id=record.id, was=record.marked, labels=kept, reason="one spelling of a class")

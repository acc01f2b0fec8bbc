"""Balance: how many pictures each class has, and whether that is enough."""

from __future__ import annotations

from taxon.auditing.evidence import Evidence
from taxon.auditing.finding import Finding
from taxon.auditing.wording import pictures
from taxon.core.text import agree, counted, some
from taxon.data.imbalance import advise, imbalance_ratio
from taxon.data.manifest import SPLITS

FEW_PICTURES = 20
HIGH_IMBALANCE = 3.0
USUAL_PARTS = 3  # train, validation and test
# Thresholds and calibration have a part of their own when it can hold this many of each class.
FOR_CALIBRATION = 20
USUAL_VALIDATION = 0.15


def check_balance(evidence: Evidence) -> list[Finding]:
    """Classes too small for the split or for sure figures; one much larger than another."""
    counts = {name: count for name, count in evidence.manifest.counts().items() if count}
    if not counts:
        return []
    return [
        *_empty(evidence, counts),
        *_too_small(evidence, counts),
        *_absent(evidence),
        *_small(counts),
        *_imbalance(evidence, counts),
    ]


def check_calibration(evidence: Evidence) -> list[Finding]:
    """Classes too small for thresholds and calibration on pictures of their own."""
    counts = {name: count for name, count in evidence.manifest.counts().items() if count}
    if not counts:
        return []
    held = dict.fromkeys(counts, 0)
    for part in ("validation", "calibration"):
        for name, count in evidence.manifest.part(part).counts().items():
            if count:
                held[name] += count
    given = any(held.values())
    expected = {
        name: held[name] if given else round(USUAL_VALIDATION * count)
        for name, count in counts.items()
    }
    name = min(expected, key=lambda key: expected[key])
    if expected[name] >= 2 * FOR_CALIBRATION:
        return []
    where = "the validation part holds" if given else "of the usual 15 %, validation would hold"
    return [
        Finding(
            check="few_for_calibration",
            severity="info",
            record_ids=(),
            score=float(expected[name]),
            advice=f"{where} {pictures(expected[name])} of '{name}': too few to divide, so "
            "validation serves for thresholds and calibration too, and its figures will be "
            f"somewhat too good. From {2 * FOR_CALIBRATION} of each class on, calibration gets a "
            "part of its own.",
        )
    ]


def _empty(evidence: Evidence, counts: dict[str, int]) -> list[Finding]:
    """Classes of which no picture is left that can be used."""
    empty = [name for name in evidence.manifest.label_space.names if name not in counts]
    if not empty:
        return []
    return [
        Finding(
            check="empty_classes",
            severity="error",
            record_ids=(),
            score=float(len(empty)),
            advice=f"{some(empty)} {agree(len(empty), 'has', 'have')} no picture that can be "
            "used: training and splitting will refuse the data. Restore the pictures, or take "
            f"the {agree(len(empty), 'class', 'classes')} out.",
        )
    ]


def _too_small(evidence: Evidence, counts: dict[str, int]) -> list[Finding]:
    """Classes with fewer units than parts, where the split is still to be made."""
    if evidence.manifest.split_counts():
        return []
    units = {
        name: len(set(evidence.units[evidence.truth[:, column]].tolist()))
        for column, name in enumerate(evidence.manifest.label_space.names)
        if name in counts
    }
    small = sorted((name for name in units if units[name] < USUAL_PARTS), key=lambda n: units[n])
    if not small:
        return []
    name = small[0]
    return [
        Finding(
            check="unsplittable_classes",
            severity="error",
            record_ids=tuple(
                record.id for record in evidence.records if set(record.labels) & set(small)
            ),
            score=float(len(small)),
            advice=f"{counted(len(small), 'class has', 'classes have')} fewer than {USUAL_PARTS} "
            f"pictures or groups of pictures that belong together ('{name}' has {units[name]}): "
            f"{agree(len(small), 'it', 'they')} cannot be in train, validation and test, and "
            f"`taxon split` and `taxon train` will refuse {agree(len(small), 'it', 'them')}. Add "
            "pictures, merge or remove the class, or ask for fewer parts (--test-share 0).",
        )
    ]


def _absent(evidence: Evidence) -> list[Finding]:
    """Classes that a part of the given split lacks."""
    manifest = evidence.manifest
    present = [part for part in SPLITS if manifest.split_counts().get(part)]
    lacking = {
        part: [name for name, count in manifest.part(part).counts().items() if not count]
        for part in present
    }
    lacking = {part: names for part, names in lacking.items() if names}
    if not lacking:
        return []
    words = "; ".join(f"{part} has no {some(names, 3)}" for part, names in lacking.items())
    return [
        Finding(
            check="absent_classes",
            severity="error" if "train" in lacking else "warning",
            record_ids=(),
            score=float(len({name for names in lacking.values() for name in names})),
            advice=f"{words}. Without training pictures a class cannot be learnt, without others "
            "it is not measured. `taxon split --resplit` makes an even split.",
        )
    ]


def _small(counts: dict[str, int]) -> list[Finding]:
    small = {name: count for name, count in counts.items() if count < FEW_PICTURES}
    if not small:
        return []
    name = min(small, key=lambda key: small[key])
    return [
        Finding(
            check="small_classes",
            severity="warning",
            record_ids=(),
            score=float(small[name]),
            advice=f"{counted(len(small), 'class has', 'classes have')} fewer than {FEW_PICTURES} "
            f"pictures (the smallest: '{name}' with {small[name]}); "
            f"{agree(len(small), 'its', 'their')} figures will be uncertain.",
        )
    ]


def _imbalance(evidence: Evidence, counts: dict[str, int]) -> list[Finding]:
    ratio = imbalance_ratio(counts)
    if ratio < HIGH_IMBALANCE:
        return []
    task = evidence.manifest.label_space.task
    instead = "top-1" if task == "multiclass" else "micro-F1"
    return [
        Finding(
            check="imbalance",
            severity="warning",
            record_ids=(),
            score=ratio,
            advice=f"{advise(counts, task)}. Look at macro-F1 and the recall of each class, not "
            f"at {instead}.",
        )
    ]

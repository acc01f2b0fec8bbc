"""Leakage: what lies on both sides of a given split, and how much too good that makes scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.auditing.duplicates import Group, equal_files, ids_of, near_duplicates, regroup
from taxon.auditing.evidence import BoolArray, Evidence
from taxon.auditing.finding import Finding
from taxon.auditing.wording import percent, pictures
from taxon.core.text import counted
from taxon.data import Record

EVALUATION_PARTS = ("test", "validation", "calibration")
MAX_TRAIN, MAX_EVALUATION = 20_000, 5_000
FEWEST = 10  # pictures that must be left without the leaked ones
_BLOCK = 500

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Optimism:
    """How much better a simple classifier scores for pictures that leaked into the training part.

    Attributes:
        part: of the split that is scored.
        with_leaks, without: its score on the part as it is, and on the rest of it; 0 to 1.
        low, high: 95 % interval of the difference, by bootstrap over units.
        leaked: pictures of the part that have their like in the training part.
    """

    part: str
    with_leaks: float
    without: float
    low: float
    high: float
    leaked: int

    @property
    def difference(self) -> float:
        """The optimism."""
        return self.with_leaks - self.without


def check_leakage(evidence: Evidence) -> list[Finding]:
    """The same file, a near-duplicate or a group in several parts of the given split."""
    if len(evidence.manifest.split_counts()) < 2:
        return []
    equal = _straddling(equal_files(evidence.records))
    known = {record.id for group in equal for record in group}
    near = [
        group
        for group in _straddling(near_duplicates(evidence))
        if len({record.split for record in group if record.id not in known}) > 1
        or not known & {record.id for record in group}
    ]
    grouped = _straddling(_by_group(evidence.records))
    kinds = [
        ("leaked_files", equal, "have a copy, byte for byte,"),
        ("leaked_near_duplicates", near, "have one that looks the same"),
        ("leaked_groups", grouped, "have others of their group"),
    ]
    return [_finding(evidence, check, groups, what) for check, groups, what in kinds if len(groups)]


def _finding(evidence: Evidence, check: str, groups: Sequence[Group], what: str) -> Finding:
    members = {record.id: record for group in groups for record in group}
    optimism = estimate_optimism(evidence, groups)
    harmless = check == "leaked_near_duplicates" and optimism is not None and optimism.low <= 0
    return Finding(
        check=check,
        severity="warning" if harmless else "error",
        record_ids=tuple(members),
        details=tuple(record.split or "no part" for record in members.values()),
        groups=ids_of(groups),
        score=len(members) / len(evidence.records),
        advice=f"{pictures(len(members))} (say {groups[0][0].id}) {what} in another part of the "
        f"split. {_in_words(optimism, evidence)} `taxon split` with `--plan` and `--resplit` "
        "makes a split that keeps them together.",
        plan=regroup(groups, "on both sides of the split"),
    )


def estimate_optimism(evidence: Evidence, groups: Sequence[Group]) -> Optimism | None:
    """Score a nearest-neighbour classifier on an evaluation part with and without its leaks.

    The score is the mean overlap (Jaccard) of the neighbour's labels with the picture's, which
    for one label each is the accuracy. The neighbour is sought among the training pictures, on
    features where they are at hand, else on thumbnails and mean colours.

    Args:
        groups: of pictures that are in several parts.

    Returns:
        The optimism of test, else of validation or calibration; None where nothing can be said.
    """
    from taxon.metrics import GroupBootstrap

    points = _points(evidence)
    partners = _with_training(groups)
    part = next(
        (name for name in EVALUATION_PARTS if any(r.split == name for r in partners.values())), None
    )
    if points is None or part is None:
        return None
    rng = np.random.default_rng(evidence.seed)
    scored = _at_most(evidence.positions(part), MAX_EVALUATION, rng)
    leaked = np.array([evidence.records[position].id in partners for position in scored])
    if (~leaked).sum() < FEWEST or not leaked.any():
        return None
    train = _training_sample(evidence, groups, rng)
    nearest = _nearest(points, scored, train)
    known = evidence.known[scored] & evidence.known[nearest]
    values = _overlap(evidence.truth[scored] & known, evidence.truth[nearest] & known)
    clean = ~leaked
    bootstrap = GroupBootstrap(len(scored), evidence.units[scored], seed=evidence.seed)
    sums = bootstrap.by_group(
        np.stack([np.ones(len(scored)), values, clean, values * clean], axis=1)
    )
    drawn = np.concatenate([sums @ weights for weights in bootstrap.weights()], axis=1)
    everyone, total, clean_count, clean_total = drawn.astype(np.float64)
    defined = clean_count > 0
    differences = (total / everyone)[defined] - clean_total[defined] / clean_count[defined]
    low, high = np.percentile(differences, [2.5, 97.5])
    return Optimism(
        part=part,
        with_leaks=float(values.mean()),
        without=float(values[clean].mean()),
        low=float(low),
        high=float(high),
        leaked=int(leaked.sum()),
    )


def _in_words(optimism: Optimism | None, evidence: Evidence) -> str:
    if optimism is None:
        return "Scores will be too good; by how much cannot be estimated here."
    where = f"features of {evidence.features_from or 'a backbone'}"
    if evidence.features is None:
        where = "thumbnails"
    score = "accuracy" if evidence.manifest.label_space.task == "multiclass" else "overlap of tags"
    scored = (
        f"a nearest-neighbour classifier on {where} has {score} {percent(optimism.with_leaks)} on "
        f"{optimism.part} as it is, and {percent(optimism.without)} without the "
        f"{counted(optimism.leaked, 'leaked picture', 'leaked pictures')}"
    )
    interval = f"(95 % interval {100 * optimism.low:.1f} to {100 * optimism.high:.1f} points)"
    points = f"{100 * optimism.difference:.1f} points"
    if optimism.low > 0:
        return f"Scores are about {points} too good {interval}: {scored}."
    if optimism.difference > 0:
        return f"Scores may be {points} too good, which is not sure {interval}: {scored}."
    return f"There is no sign that it makes scores better {interval}: {scored}."


def _straddling(groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if len({record.split for record in group}) > 1]


def _by_group(records: Iterable[Record]) -> list[Group]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.group is not None:
            groups[record.group].append(record)
    return list(groups.values())


def _with_training(groups: Iterable[Group]) -> dict[str, Record]:
    """The pictures of other parts whose group has a training picture, by id."""
    return {
        record.id: record
        for group in groups
        if any(member.split == "train" for member in group)
        for record in group
        if record.split != "train"
    }


def _training_sample(
    evidence: Evidence, groups: Iterable[Group], rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Training pictures, those of the groups always among them."""
    train = evidence.positions("train")
    if len(train) <= MAX_TRAIN:
        return train
    names = {record.id for group in groups for record in group}
    inside = np.array([evidence.records[position].id in names for position in train])
    others = _at_most(train[~inside], MAX_TRAIN, rng)
    return np.concatenate([train[inside][:MAX_TRAIN], others])


def _at_most(
    positions: npt.NDArray[np.intp], limit: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    if len(positions) <= limit:
        return positions
    return np.sort(rng.choice(positions, limit, replace=False))


def _points(evidence: Evidence) -> npt.NDArray[np.float32] | None:
    """Directions [N, D] whose cosine says how alike two pictures are, or None."""
    if evidence.features is not None:
        points = evidence.features.astype(np.float32)
    elif evidence.looks:
        thumbnails = np.frombuffer(b"".join(look.thumbnail for look in evidence.looks), np.uint8)
        grey = thumbnails.reshape(len(evidence.looks), -1).astype(np.float32) / 255
        colours = np.array([look.mean_colour for look in evidence.looks], np.float32)
        # Three numbers beside 256: without a weight, colour would not count.
        points = np.hstack([grey, 5 * colours])
    else:
        return None
    points = points - points.mean(axis=0)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(lengths, 1e-12), np.float32)


def _nearest(
    points: npt.NDArray[np.float32], scored: npt.NDArray[np.intp], train: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """For each picture the training picture that is most like it."""
    candidates = points[train].T
    best = [
        (points[scored[start : start + _BLOCK]] @ candidates).argmax(axis=1)
        for start in range(0, len(scored), _BLOCK)
    ]
    return np.asarray(train[np.concatenate(best)])


def _overlap(truth: BoolArray, answers: BoolArray) -> Floats:
    """The Jaccard index of each row, 1 where both are empty."""
    union = (truth | answers).sum(axis=1)
    both = (truth & answers).sum(axis=1)
    return np.where(union > 0, both / np.maximum(union, 1), 1.0)

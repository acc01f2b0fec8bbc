"""Look-alikes: pictures that a model finds alike, and whose hashes do not tell it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from taxon.auditing.duplicates import Group, differ, ids_of
from taxon.auditing.evidence import NO_FEATURES, Evidence, IntArray
from taxon.auditing.finding import Finding, NotRun
from taxon.auditing.wording import labels_of, pictures
from taxon.core.predictions import FloatArray
from taxon.core.text import counted
from taxon.core.versions import DISTRIBUTION, installed_version
from taxon.data import Record
from taxon.data.duplicates.linking import Linker, Links
from taxon.data.plan import Plan, Regroup
from taxon.similarity import neighbours_within

# A pair counts if its pictures are much nearer to each other than each is to its crowd, the
# tenth nearest that is not known to belong to it: how near unrelated pictures of a class are is
# another thing for each model and each class. Chosen by eye on two real sets
# (docs/adr/0033-audit-at-scale.md).
CROWD = 10
NEARER = 0.4  # times the distance (1 - cosine) to the crowd, at most
LEAST_COSINE = 0.5  # after removing the mean; whatever the crowd, less is not alike
_NEIGHBOURS = 24  # those that are looked at: some may be known to belong together
FEWEST = 3 * CROWD  # pictures; among fewer there is no crowd
# Without FAISS every picture is compared with every other one: minutes.
MAX_EXACT = 100_000
_FAISS = "faiss-cpu"


def check_look_alikes(evidence: Evidence) -> list[Finding] | NotRun:
    """Pictures that are alike in features, and not known to belong together."""
    if evidence.features is None:
        return NotRun(evidence.features_from or NO_FEATURES)
    copies: dict[str, list[Record]] = defaultdict(list)
    first: dict[str, int] = {}
    for position, record in enumerate(evidence.records):
        copies[record.sha256].append(record)
        first.setdefault(record.sha256, position)
    if len(first) < FEWEST:
        return NotRun(f"too few pictures to tell look-alikes from a crowd (at least {FEWEST})")
    if len(first) > MAX_EXACT and installed_version(_FAISS) is None:
        return NotRun(
            f"among more than {MAX_EXACT:,} pictures it needs {_FAISS}, not installed here; type: "
            f"pip install '{DISTRIBUTION}[search]'"
        )
    positions = np.fromiter(first.values(), np.int64)
    links = look_alike_links(evidence.features[positions], evidence.units[positions])
    linker = Linker(len(positions))
    linker.add(links)
    linked = linker.groups()
    order = sorted(range(len(linked.groups)), key=lambda group: -linked.strengths[group])
    groups = [
        [
            copy
            for member in linked.groups[group]
            for copy in copies[evidence.records[positions[member]].sha256]
        ]
        for group in order
    ]
    across = [group for group in groups if len({record.split for record in group}) > 1]
    within = [group for group in groups if len({record.split for record in group}) == 1]
    return [*_across(across, evidence), *_within(within, evidence)]


def look_alike_links(features: FloatArray, units: IntArray) -> Links:
    """Find pairs that are alike, the strength of each its cosine after removing the mean.

    Args:
        features: float32 [N, F].
        units: int64 [N]: those of one number are known to belong together, and are no pairs.
    """
    found = neighbours_within(features, _NEIGHBOURS, centred=True)
    distances = 1 - found.similarities
    others = units[found.rows] != units[:, None]
    # The tenth of the others, or the last of those that were looked at.
    ranks = np.cumsum(others, axis=1)
    place = np.argmax(others & (ranks == np.minimum(ranks[:, -1:], CROWD)), axis=1)
    crowd = np.where(others.any(axis=1), distances[np.arange(len(units)), place], 0)
    limit = NEARER * np.minimum(crowd[:, None], crowd[found.rows])
    alike = others & (distances <= limit) & (found.similarities >= LEAST_COSINE)
    left, column = np.nonzero(alike)
    return Links(left, found.rows[left, column], found.similarities[left, column])


def _across(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    if not groups:
        return []
    members = [record for group in groups for record in group]
    return [
        Finding(
            check="look_alikes_across_parts",
            severity="warning",
            record_ids=tuple(record.id for record in members),
            details=tuple(record.split or "no part" for record in members),
            groups=ids_of(groups),
            score=len(members) / len(evidence.records),
            advice=f"{_alike(groups, evidence)}, and are in different parts of the split, so that "
            f"scores may be too good. {_ADVICE} `taxon split` with `--plan` and `--resplit` then "
            "makes a split that keeps them together.",
            plan=_proposals(groups),
        )
    ]


def _within(groups: Sequence[Group], evidence: Evidence) -> list[Finding]:
    if not groups:
        return []
    members = [record for group in groups for record in group]
    contradicting = sum(differ(group) for group in groups)
    labels = f" In {counted(contradicting, 'group', 'groups')} labels differ." * bool(contradicting)
    return [
        Finding(
            check="look_alikes",
            severity="info",
            record_ids=tuple(record.id for record in members),
            details=tuple(labels_of(record) for record in members),
            groups=ids_of(groups),
            score=len(members) / len(evidence.records),
            advice=f"{_alike(groups, evidence)}.{labels} {_ADVICE}",
            plan=_proposals(groups),
        )
    ]


_ADVICE = (
    "Often it is one motif, taken or cut twice; sometimes two things of a kind in one place: look "
    "at them. The plan proposes to keep each group together; nothing happens until you accept it."
)


def _alike(groups: Sequence[Group], evidence: Evidence) -> str:
    one, other, *_ = groups[0]
    count = sum(map(len, groups))
    return (
        f"{pictures(count)} in {counted(len(groups), 'group', 'groups')} (say {one.id} and "
        f"{other.id}) look alike by features of {evidence.features_from or 'a backbone'}, which "
        "their hashes do not show"
    )


def _proposals(groups: Sequence[Group]) -> Plan:
    """To keep each group together; a person accepts some."""
    steps = (
        Regroup(
            group=f"like {group[0].id}",
            ids=tuple(record.id for record in group),
            reason="they look alike to the model",
            accept=False,
        )
        for group in groups
    )
    return Plan(regroup=tuple(steps))

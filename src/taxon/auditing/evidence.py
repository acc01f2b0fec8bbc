"""What the checks look at, made once: looks, features, and which pictures belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxon.auditing.finding import NotRun
from taxon.auditing.wording import pictures
from taxon.core.labels import UNKNOWN
from taxon.core.predictions import FloatArray
from taxon.core.text import counted
from taxon.data import Manifest, Record
from taxon.data.duplicates.near_duplicates import near_duplicate_groups
from taxon.data.look import Look
from taxon.data.splitting.units import make_units
from taxon.preprocessing import Preprocessing

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NO_LOOKS = NotRun(
    "nobody has looked into the pictures: audit the folder or table, not a manifest as it was read"
)
NO_FEATURES = "needs features: name a backbone whose weights are at hand"


@dataclass(frozen=True)
class Evidence:
    """A manifest with all that the checks share.

    Attributes:
        spec: the preprocessing that the pictures are meant for.
        seed: of samples and folds.
        features: float32 [N, F] of a frozen backbone, or None.
        features_from: the backbone's name; without features, why there are none.
        probabilities: float32 [N, C] of a model that never saw the pictures, or None.
        near: groups of near-duplicates, as positions of records.
        near_notes: what the search for them gave up, in plain sentences.
    """

    manifest: Manifest
    spec: Preprocessing
    seed: int
    features: FloatArray | None
    features_from: str
    probabilities: FloatArray | None = None
    near: tuple[tuple[int, ...], ...] = ()
    near_notes: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """The pictures."""
        return self.manifest.records

    @cached_property
    def looks(self) -> tuple[Look, ...] | None:
        """What the look into each picture found; None where a picture has none."""
        looks = tuple(record.look for record in self.records if record.look is not None)
        return looks if len(looks) == len(self.records) else None

    @cached_property
    def units(self) -> IntArray:
        """int64 [N]: the number of the unit of pictures (of one group, of one content, or
        near-duplicates) that each belongs to; units are independent of each other."""
        alike = (tuple(self.records[position].sha256 for position in group) for group in self.near)
        members = make_units(self.manifest, alike, {})[0].members
        numbers = np.zeros(len(self.records), np.int64)
        for number, positions in enumerate(members):
            numbers[list(positions)] = number
        return numbers

    @cached_property
    def truth(self) -> BoolArray:
        """bool [N, C]: which classes each picture is known to have."""
        targets = self.manifest.targets()
        if targets.ndim == 2:
            return np.asarray(targets == 1)
        matrix = np.zeros((len(targets), len(self.manifest.label_space.names)), bool)
        matrix[np.arange(len(targets)), targets] = True
        return matrix

    @cached_property
    def known(self) -> BoolArray:
        """bool [N, C]: of which classes it is known whether the picture has them."""
        targets = self.manifest.targets()
        return targets != UNKNOWN if targets.ndim == 2 else np.ones_like(self.truth)

    def positions(self, *parts: str) -> npt.NDArray[np.intp]:
        """Positions of the pictures of some parts of the split."""
        return np.flatnonzero([record.split in parts for record in self.records])


def gather(
    manifest: Manifest,
    *,
    features: FloatArray | None,
    features_from: str,
    spec: Preprocessing,
    seed: int,
    search: bool,
    probabilities: FloatArray | None = None,
) -> Evidence:
    """Make the evidence of a manifest.

    Args:
        features: float32 [N, F], in the order of the records.
        search: look for near-duplicates.

    Raises:
        ValueError: not one row of features for each record.
    """
    if features is not None and len(features) != len(manifest):
        rows = counted(len(features), "row", "rows")
        raise ValueError(f"{rows} of features for {pictures(len(manifest))}")
    evidence = Evidence(manifest, spec, seed, features, features_from, probabilities)
    return _with_near_duplicates(evidence) if search else evidence


def _with_near_duplicates(evidence: Evidence) -> Evidence:
    """Pictures that nobody has looked into take no part; equal files are compared once."""
    first: dict[str, int] = {}
    for position, record in enumerate(evidence.records):
        if record.hash is not None and record.look is not None:
            first.setdefault(record.sha256, position)
    if len(first) < 2:
        return evidence
    positions = np.fromiter(first.values(), np.int64)
    looks = [evidence.records[position].look for position in positions]
    thumbnails = np.frombuffer(b"".join(look.thumbnail for look in looks if look), np.uint8)
    found = near_duplicate_groups(
        np.array([evidence.records[position].hash for position in positions], np.uint64),
        thumbnails.reshape(len(positions), -1),
        features=None if evidence.features is None else evidence.features[positions],
    )
    near = tuple(tuple(int(positions[member]) for member in group) for group in found.groups)
    return replace(evidence, near=near, near_notes=found.notes)

"""The pictures that a run has labels for, known again by their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taxon.api.feature_sources import FeatureBatch
from taxon.bundle.layout import MANIFEST_FILE
from taxon.core.fingerprint import sha256_file
from taxon.data import Record, read_manifest


class LabelledContents:
    """Leaves out pictures whose content is in the manifest of a run.

    Args:
        run: the model folder; an artefact alone has no manifest.

    Attributes:
        count: how many were left out.
        notes: why nothing is, where there is no manifest.
    """

    def __init__(self, run: Path) -> None:
        self.count = 0
        self.notes: tuple[str, ...] = ()
        records: Sequence[Record] = ()
        if (run / MANIFEST_FILE).is_file():
            records = read_manifest(run / MANIFEST_FILE).records
        else:
            self.notes = (
                f"{run} holds no {MANIFEST_FILE}: pictures that have a label already cannot be "
                "told from new ones",
            )
        self._contents = {record.sha256 for record in records}
        # Files of other sizes need not be read; of an old manifest none is known.
        self._sizes = {record.file_size for record in records}
        self._any_size = 0 in self._sizes

    def left_out(self, batch: FeatureBatch) -> FeatureBatch:
        """Return the batch without them."""
        if batch.hashes is not None:
            known = [content in self._contents for content in batch.hashes]
        else:
            known = [self._is_known(path) for path in batch.paths]
        if not any(known):
            return batch
        self.count += sum(known)
        kept = np.flatnonzero(~np.array(known))
        return FeatureBatch(
            tuple(batch.paths[row] for row in kept.tolist()),
            batch.features[kept],
            None if batch.probabilities is None else batch.probabilities[kept],
        )

    def _is_known(self, path: str) -> bool:
        try:
            may_be = self._any_size or Path(path).stat().st_size in self._sizes
            return may_be and sha256_file(Path(path)) in self._contents
        except (OSError, ValueError):  # what is no file here
            return False

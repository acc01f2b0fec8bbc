"""Write a bundle: everything but the weights, which `models` saves into the same folder."""

from __future__ import annotations

from pathlib import Path

from taxon.bundle.history import write_history
from taxon.bundle.layout import (
    BUNDLE_FILE,
    DECISION_FILE,
    GOLDEN_FOLDER,
    HASHED_FILES,
    LABELS_FILE,
    OPTIONAL_FILES,
    PREPROCESSING_FILE,
    BundleInfo,
    Provenance,
)
from taxon.config import HeadKind, Pooling
from taxon.core.files import write_json
from taxon.core.fingerprint import sha256_file
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.preprocessing import Preprocessing


def write_parts(
    folder: Path, label_space: LabelSpace, preprocessing: Preprocessing, policy: DecisionPolicy
) -> None:
    """Write labels.json, preprocessing.json and decision.json."""
    write_json(folder / LABELS_FILE, label_space.model_dump(mode="json"))
    write_json(folder / PREPROCESSING_FILE, preprocessing.model_dump(mode="json"))
    write_json(folder / DECISION_FILE, policy.model_dump(mode="json"))


def seal(
    folder: Path,
    *,
    name: str,
    backbone: str,
    head: HeadKind,
    pooling: Pooling,
    label_space: LabelSpace,
    provenance: Provenance,
) -> BundleInfo:
    """Hash the files that the answers depend on; write bundle.json and the history.

    Called last: a folder without bundle.json is no bundle.
    """
    golden = sorted((folder / GOLDEN_FOLDER).glob("*.png"))
    pictures = [picture.relative_to(folder).as_posix() for picture in golden]
    optional = [file for file in OPTIONAL_FILES if (folder / file).exists()]
    info = BundleInfo(
        name=name,
        backbone=backbone,
        head=head,
        pooling=pooling,
        files={file: sha256_file(folder / file) for file in (*HASHED_FILES, *optional, *pictures)},
        provenance=provenance,
    )
    write_history(folder, provenance.history, label_space.task)
    write_info(folder / BUNDLE_FILE, info)
    return info


def write_info(file: Path, info: BundleInfo) -> None:
    """Write bundle.json; of what most models do not have, nothing."""
    left_out = set() if info.stand_ins else {"stand_ins"}
    write_json(file, info.model_dump(mode="json", exclude=left_out))

"""Read a bundle and check that nobody altered it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from taxon.bundle.layout import (
    BUNDLE_FILE,
    DECISION_FILE,
    FORMAT_VERSION,
    HASHED_FILES,
    LABELS_FILE,
    PREPROCESSING_FILE,
    BundleInfo,
    ModelSpec,
    is_golden,
)
from taxon.core.errors import BundleError
from taxon.core.fingerprint import sha256_file
from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy
from taxon.preprocessing import Preprocessing

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Bundle:
    """A model folder, read and checked; the weights stay on disk until they are asked for."""

    path: Path
    info: BundleInfo
    spec: ModelSpec


def read_bundle(path: Path) -> Bundle:
    """Read a model folder and compare every hashed file with bundle.json.

    Raises:
        BundleError: not a bundle, of a newer format, a file absent, unreadable or altered.
    """
    info = read_bundle_info(path)
    for name, expected in info.present.items():
        check_file(path, name, expected)
    spec = ModelSpec(
        name=info.name,
        fingerprint=info.fingerprint,
        backbone=info.backbone,
        label_space=read_model(path / LABELS_FILE, LabelSpace),
        preprocessing=read_model(path / PREPROCESSING_FILE, Preprocessing),
        policy=read_model(path / DECISION_FILE, DecisionPolicy),
    )
    return Bundle(path=path, info=info, spec=spec)


def read_model(path: Path, kind: type[Model]) -> Model:
    """Read one JSON file as a pydantic model.

    Raises:
        BundleError: absent, not JSON, or not of this shape.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path} is damaged: {place}: {first['msg']}") from error


def read_bundle_info(path: Path) -> BundleInfo:
    """Read bundle.json, and nothing else.

    Raises:
        BundleError: absent, damaged, or of a newer format.
    """
    file = path / BUNDLE_FILE
    if not file.is_file():
        raise BundleError(
            f"{path} is not a model folder (no {BUNDLE_FILE} in it); "
            "name the folder that `taxon train` wrote"
        )
    try:
        version = json.loads(file.read_bytes()).get("format_version")
    except (ValueError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"{file} has format version {version}, this taxon reads up to {FORMAT_VERSION}; "
            "upgrade with `pip install --upgrade taxon-vision`"
        )
    info = read_model(file, BundleInfo)
    _require_covered(info, file)
    return info


def _require_covered(info: BundleInfo, file: Path) -> None:
    """Refuse hashes that do not cover the model, and names that lead out of its folder."""
    missing = sorted(set(HASHED_FILES) - info.present.keys())
    if missing:
        raise BundleError(f"{file} is damaged: it states no sha256 of {missing[0]}")
    # By the rules of Windows, which knows all separators and more ways to name another place.
    paths = {name: PureWindowsPath(name) for name in (*info.files, *info.stand_ins)}
    elsewhere = [name for name, path in paths.items() if path.anchor or ".." in path.parts]
    if elsewhere:
        raise BundleError(f"{file} is damaged: '{elsewhere[0]}' leads out of the model folder")
    strange = [name for name in info.stand_ins if not is_golden(name)]
    if strange:
        raise BundleError(f"{file} is damaged: {strange[0]} is no golden example")


def check_file(folder: Path, name: str, expected: str) -> None:
    """Compare a file of a model folder with the sha256 that bundle.json states.

    Raises:
        BundleError: absent, unreadable or altered.
    """
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{file} is missing; the model folder is not complete")
    try:
        actual = sha256_file(file)
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error.strerror or error}") from error
    if actual != expected:
        raise BundleError(
            f"{file} does not have the sha256 that {BUNDLE_FILE} states; it was altered or "
            "damaged after training. Copy the folder again, or train again"
        )

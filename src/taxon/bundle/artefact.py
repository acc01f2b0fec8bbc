"""Exported artefacts: a file in some runtime's format, with artefact.json beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from taxon.bundle.layout import ARTEFACT_FILE, ARTEFACTS_FOLDER, ModelSpec
from taxon.bundle.read import Bundle, read_model
from taxon.core.errors import BundleError
from taxon.core.fingerprint import sha256_file


class ArtefactInfo(BaseModel):
    """The content of artefact.json.

    Attributes:
        format: `onnx`, ...
        file: the artefact's file name, beside artefact.json.
        sha256: of that file.
        spec: class names, preprocessing, policy and the fingerprint of the bundle.
        inputs, outputs: name -> type and shape, `N` for the batch.
        parity: the report of `verify` when it was exported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    file: str
    sha256: str
    spec: ModelSpec
    inputs: dict[str, str]
    outputs: dict[str, str]
    parity: dict[str, Any]


def read_artefact(path: Path) -> ArtefactInfo:
    """Read artefact.json in a folder and check the artefact's hash.

    Raises:
        BundleError: absent, damaged or altered.
    """
    info = read_model(path / ARTEFACT_FILE, ArtefactInfo)
    file = path / info.file
    if not file.is_file():
        raise BundleError(f"{file} is missing, though {path / ARTEFACT_FILE} names it")
    if sha256_file(file) != info.sha256:
        raise BundleError(
            f"{file} does not have the sha256 that {ARTEFACT_FILE} states; export it again"
        )
    return info


def artefact_folder(bundle_path: Path, format_name: str) -> Path:
    """Return where a format's artefact lies in a bundle."""
    return bundle_path / ARTEFACTS_FOLDER / format_name


def require_fresh(info: ArtefactInfo, bundle: Bundle) -> None:
    """Refuse an artefact that was exported from another state of the model.

    Raises:
        BundleError: the fingerprints differ.
    """
    if info.spec.fingerprint != bundle.spec.fingerprint:
        raise BundleError(
            f"the {info.format} artefact was exported from another model than {bundle.path} "
            f"(fingerprints {info.spec.fingerprint[:12]} and {bundle.spec.fingerprint[:12]}); "
            f"export again: taxon export {bundle.path} --to {info.format}"
        )

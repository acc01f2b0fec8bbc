"""Exported artefacts: a file or folder in some runtime's format, with artefact.json beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from taxon.bundle.layout import ARTEFACT_FILE, ARTEFACTS_FOLDER, ModelSpec
from taxon.bundle.read import Bundle, read_model
from taxon.core.errors import BundleError
from taxon.core.fingerprint import sha256_file

ARTEFACT_VERSION = 2
Precision = Literal["float32", "float16", "int8"]


class Speed(BaseModel):
    """How fast an artefact answered, measured in turns with a rival.

    Attributes:
        batch: pictures a call.
        p50_ms, p95_ms: milliseconds a call, median and 95th percentile.
        rival: what it took turns with.
        rival_p50_ms: its median.
        ratio: time of the artefact by that of the rival, in the median; below 1 it is faster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int
    p50_ms: float
    p95_ms: float
    rival: str
    rival_p50_ms: float
    ratio: float


class ArtefactInfo(BaseModel):
    """The content of artefact.json.

    Attributes:
        format_version: raised when an older taxon could misread the folder.
        format: a name of `taxon export --to`.
        precision: of weights and arithmetic.
        file: the artefact, a file or a folder, beside artefact.json.
        files: sha256 of each file that it consists of, by path relative to artefact.json.
        spec: class names, preprocessing, policy and the fingerprint of the bundle.
        inputs, outputs: name -> type and shape, `N` for the batch.
        adapter: in words, what stands between the format's input and outputs and those of the
            core graph; empty where there is nothing.
        frame: (width, height) of the pictures that go in where the resize is in the graph.
        made_with: versions of the libraries that converted it.
        size: bytes of all files.
        parity: the comparisons with the trained model when it was exported.
        speed: where it was measured, one a batch size.
        machine: where speed was measured.
        notes: what a user must know, in sentences.
        details: what the format has to tell beside, such as the layers kept in float.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = ARTEFACT_VERSION
    format: str
    precision: Precision
    file: str
    files: dict[str, str]
    spec: ModelSpec
    inputs: dict[str, str]
    outputs: dict[str, str]
    adapter: str = ""
    frame: tuple[int, int] | None = None
    made_with: dict[str, str] = {}
    size: int
    parity: tuple[dict[str, Any], ...]
    speed: tuple[Speed, ...] = ()
    machine: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = {}


def hash_files(folder: Path, file: str) -> dict[str, str]:
    """Return the sha256 of an artefact's file, or of every file in it where it is a folder."""
    start = folder / file
    files = [start] if start.is_file() else sorted(each for each in start.rglob("*"))
    return {
        each.relative_to(folder).as_posix(): sha256_file(each) for each in files if each.is_file()
    }


def read_info(path: Path) -> ArtefactInfo:
    """Read artefact.json in a folder, and nothing else.

    Raises:
        BundleError: absent, damaged, or of another version.
    """
    file = path / ARTEFACT_FILE
    try:
        version = json.loads(file.read_bytes()).get("format_version", 1)
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {error}; export it again") from error
    if not isinstance(version, int) or version > ARTEFACT_VERSION:
        raise BundleError(
            f"{file} has format version {version}, this taxon reads up to {ARTEFACT_VERSION}; "
            "upgrade with `pip install --upgrade taxon-vision`, or export again"
        )
    if version < ARTEFACT_VERSION:
        raise BundleError(
            f"{file} was written by an older taxon (format version {version}, this one reads "
            f"{ARTEFACT_VERSION}); export again: taxon export RUN --to {path.name}"
        )
    return read_model(file, ArtefactInfo)


def read_artefact(path: Path) -> ArtefactInfo:
    """Read artefact.json in a folder and check the hash of every file of the artefact.

    Raises:
        BundleError: absent, damaged, altered or of another version.
    """
    info = read_info(path)
    _require_covered(info, path / ARTEFACT_FILE)
    for name, expected in info.files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file} is missing, though {path / ARTEFACT_FILE} names it")
        if sha256_file(file) != expected:
            raise BundleError(
                f"{file} does not have the sha256 that {ARTEFACT_FILE} states; export it again"
            )
    return info


def folder_of(path: Path) -> Path:
    """Return the artefact's folder where its file is named (`model.tflite`, `model.mlpackage`)."""
    if not (path / ARTEFACT_FILE).is_file() and (path.parent / ARTEFACT_FILE).is_file():
        return path.parent
    return path


def _require_covered(info: ArtefactInfo, file: Path) -> None:
    """Refuse hashes that do not cover the artefact, and paths that lead elsewhere."""
    names = [info.file, *info.files]
    elsewhere = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
    covered = any(Path(name).is_relative_to(info.file) for name in info.files)
    if elsewhere or not covered:
        reason = f"'{elsewhere[0]}' leads elsewhere" if elsewhere else f"no sha256 of {info.file}"
        raise BundleError(f"{file} is damaged: {reason}; export it again")


def artefact_name(format_name: str, frame: tuple[int, int] | None = None) -> str:
    """Return the name of an artefact's folder: one for whole frames stands beside the usual one."""
    return format_name if frame is None else f"{format_name}-{frame[0]}x{frame[1]}"


def artefact_folder(bundle_path: Path, name: str) -> Path:
    """Return where an artefact lies in a bundle, by `artefact_name`."""
    return bundle_path / ARTEFACTS_FOLDER / name


def require_accepted(info: ArtefactInfo, path: Path) -> None:
    """Refuse an artefact that was not equal to its model when it was exported.

    Raises:
        BundleError: it was rejected.
    """
    if not all(report["passed"] for report in info.parity):
        raise BundleError(
            f"{path} was rejected when it was exported: it does not answer as its model does. See "
            f"`parity` in its {ARTEFACT_FILE}, or export it again"
        )


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


def own_artefacts(bundle: Bundle) -> list[ArtefactInfo]:
    """Return what lies in the bundle's own folder and belongs to this state of the model.

    Hashes are not checked; what cannot be read or is stale is left out: it is no artefact of this
    model, and using it is refused by name.
    """
    found = []
    for file in sorted((bundle.path / ARTEFACTS_FOLDER).glob(f"*/{ARTEFACT_FILE}")):
        try:
            info = read_info(file.parent)
        except BundleError:
            continue
        if info.spec == bundle.spec:
            found.append(info)
    return found


def accepted_artefact(bundle: Bundle, name: str) -> tuple[Path, ArtefactInfo]:
    """Return the folder of a model's own artefact, and what it says of itself.

    Raises:
        BundleError: it is absent, altered, of another state of the model, or was rejected.
    """
    folder = artefact_folder(bundle.path, name)
    if not (folder / ARTEFACT_FILE).is_file():
        has = ", ".join(sorted(info.format for info in own_artefacts(bundle))) or "none"
        raise BundleError(
            f"{bundle.path} has no artefact '{name}' (it has: {has}); make one: "
            f"taxon export {bundle.path} --to {name}"
        )
    info = read_artefact(folder)
    require_fresh(info, bundle)
    require_accepted(info, folder)
    return folder, info

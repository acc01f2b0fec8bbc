"""What of a model folder is published: the model, and nothing of its owner's pictures and machine.

Never: the manifest (paths, names and hashes of all pictures), the report, evaluations and
comparisons (small copies of pictures), checkpoints. The golden pictures are the owner's too: others
are generated in their place, unless theirs are asked for. In the card, in bundle.json and in
artefact.json absolute paths are cut and the names of pictures are taken out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxon.bundle import ArtefactInfo, Bundle, BundleInfo
from taxon.bundle.artefact import (
    accepted_artefact,
    artefact_folder,
)
from taxon.bundle.card.usage import for_hub
from taxon.bundle.layout import (
    ARTEFACT_FILE,
    ARTEFACTS_FOLDER,
    BUNDLE_FILE,
    CARD_FILE,
    GOLDEN_FOLDER,
    METRICS_FILE,
    REFERENCE_FILE,
    is_golden,
)
from taxon.bundle.redaction import redacted, without_places
from taxon.core.errors import BundleError, CheckFailed

GENERATED = "generated pictures, which stand in for yours"
YOURS = "PICTURES OF YOUR DATA, as you asked"
STAYS = "the manifest, report/, evaluations/, comparisons/, checkpoints/ and the training pictures"
RUNNER_MARK = "classify.pyz"
_LEFT_OUT = """
## What is not here

The pictures that the model was made of, `manifest.parquet` that names them, and `report/` that \
shows some stay with whoever trained it. {golden}
"""
_GOLDEN_NOTE = {
    True: "The golden pictures in `golden/` are of its data.",
    False: "The golden pictures in `golden/`, on which `taxon` checks the model, are generated.",
}
Content = Path | bytes


@dataclass(frozen=True)
class Publication:
    """Files to publish.

    Attributes:
        files: what each file holds, by its name in the repository: bytes, or the file with them.
        notes: what its owner must know, in sentences.
    """

    files: dict[str, Content]
    notes: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


def publication(
    bundle: Bundle,
    folder: Path,
    repository: str,
    *,
    revision: str | None = None,
    artefacts: Sequence[str] | None = None,
    with_pictures: bool = False,
) -> Publication:
    """Gather what is published of a model folder.

    Args:
        folder: an empty one, for files that are made for this.
        repository: `user/name`, for the card.
        artefacts: names of artefacts of the folder; None: the ONNX, where there is one.
        with_pictures: the golden pictures of the owner's data in place of generated ones.

    Raises:
        BundleError: an artefact is absent, altered, rejected or stale.
        CheckFailed: an artefact does not give the outputs of the generated golden pictures.
    """
    info, notes = bundle.info, [f"stays with you: {STAYS}"]
    if not with_pictures and not info.stand_ins:
        from taxon.api.golden import write_stand_ins

        info = info.model_copy(update={"stand_ins": write_stand_ins(bundle, folder)})
    golden = folder if info.stand_ins and not bundle.info.stand_ins else bundle.path
    shown = GENERATED if info.stand_ins else YOURS
    notes.insert(0, f"{GOLDEN_FOLDER}/: {shown}")
    files: dict[str, Content] = {BUNDLE_FILE: _json(_published(info))}
    for name in info.present:
        files[name] = (golden if is_golden(name) else bundle.path) / name
    for name in (CARD_FILE, METRICS_FILE, REFERENCE_FILE):
        if (bundle.path / name).is_file():
            files[name] = bundle.path / name
    if CARD_FILE in files:
        files[CARD_FILE] = _card(bundle, repository, revision, generated=bool(info.stand_ins))
    if METRICS_FILE in files:
        files[METRICS_FILE] = _metrics(bundle.path / METRICS_FILE)
    staged = Bundle(golden, info, bundle.spec)
    for name in _wanted(bundle, artefacts, notes):
        files |= _artefact(bundle, staged, name)
    notes += _telling(files)
    order = {name: place for place, name in enumerate((CARD_FILE, BUNDLE_FILE))}
    ordered = sorted(files, key=lambda name: (order.get(name, len(order)), name))
    return Publication({name: files[name] for name in ordered}, notes)


def _published(info: BundleInfo) -> dict[str, Any]:
    value = info.model_dump(mode="json")
    value["provenance"] = redacted(value["provenance"])
    return value


def _card(bundle: Bundle, repository: str, revision: str | None, *, generated: bool) -> bytes:
    text = (bundle.path / CARD_FILE).read_text("utf-8-sig", errors="replace")
    text = for_hub(without_places(text), bundle.info.name, repository, revision)
    return (text + _LEFT_OUT.format(golden=_GOLDEN_NOTE[not generated])).encode()


def _metrics(file: Path) -> bytes:
    """The figures; where they were computed is cut, their names and numbers stay."""
    try:
        value = json.loads(file.read_bytes())
        value["about"] = redacted(value["about"])
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{file} is damaged: {error}; evaluate again") from error
    return _json(value)


def _wanted(bundle: Bundle, artefacts: Sequence[str] | None, notes: list[str]) -> list[str]:
    if artefacts is not None:
        return list(dict.fromkeys(artefacts))
    if artefact_folder(bundle.path, "onnx").is_dir():
        return ["onnx"]
    notes.append(
        "there is no ONNX artefact, which `taxon serve` needs; make one: "
        f"taxon export {bundle.path} --to onnx"
    )
    return []


def _artefact(bundle: Bundle, staged: Bundle, name: str) -> dict[str, Content]:
    """The files of an artefact, checked; what it says of pictures and places is cut."""
    from taxon.api.artefact_checks import Reference, check_artefact
    from taxon.inference.artefacts import open_artefact

    folder, info = accepted_artefact(bundle, name)
    if staged.path != bundle.path:
        backend, reference = open_artefact(folder, info), Reference(bundle, None)
        reports = check_artefact(backend, staged, info.precision, reference, frame=info.frame)
        failed = [report.sentence() for report in reports if not report.passed]
        if failed:
            raise CheckFailed(
                f"{failed[0]}, of which some were generated in place of yours. Leave {name} out "
                "(--artefacts), or push your own golden pictures (--with-pictures)"
            )
    files: dict[str, Content] = {each: folder / each for each in info.files}
    files[ARTEFACT_FILE] = _json(_described(info))
    return {f"{ARTEFACTS_FOLDER}/{name}/{each}": content for each, content in files.items()}


def _described(info: ArtefactInfo) -> dict[str, Any]:
    value = info.model_dump(mode="json")
    # The runner is code, and no code is published.
    value["notes"] = [note for note in value["notes"] if RUNNER_MARK not in note]
    return value | {key: redacted(value[key]) for key in ("parity", "notes", "details")}


def _telling(files: dict[str, Content]) -> list[str]:
    """Notes on files that name the owner's home folder; converters write such things."""
    home = Path.home()
    if len(home.parts) < 2:
        return []
    marks = (f"{home}/".encode(), f"{home}\\".encode())
    found = [
        name
        for name, content in files.items()
        if isinstance(content, Path) and any(mark in content.read_bytes() for mark in marks)
    ]
    return [f"{name} names your home folder {home}; look whether you mind" for name in found]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

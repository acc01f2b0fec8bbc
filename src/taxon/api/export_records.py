"""What is written down of an export: artefact.json, notes on speed, the report's section."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taxon.bundle import ArtefactInfo, Bundle
from taxon.bundle.artefact import Speed, hash_files, own_artefacts
from taxon.bundle.layout import REPORT_FILE
from taxon.core.files import write_text
from taxon.exporters.formats import Format
from taxon.exporters.job import Written

# A smaller gain may be the noise of the measurement.
FASTER = 0.97


def artefact_info(
    bundle: Bundle,
    wanted: Format,
    folder: Path,
    written: Written,
    frame: tuple[int, int] | None = None,
) -> ArtefactInfo:
    """Describe what an exporter wrote into a folder; it was not compared with the model yet."""
    files = hash_files(folder, written.file)
    for name in written.beside:
        files |= hash_files(folder, name)
    return ArtefactInfo(
        format=wanted.name,
        precision=wanted.precision,
        file=written.file,
        files=files,
        spec=bundle.spec,
        inputs=dict(written.inputs),
        outputs=dict(written.outputs),
        adapter=written.adapter,
        frame=frame,
        made_with=dict(written.made_with),
        size=sum((folder / name).stat().st_size for name in files),
        parity=(),
        notes=written.notes,
        details=dict(written.details),
    )


def speed_notes(wanted: Format, speed: Sequence[Speed]) -> list[str]:
    """Fewer bits are chosen for speed: where they bring none on this machine, it is said."""
    slow = [each for each in speed if each.ratio >= FASTER]
    if wanted.precision == "float32" or not slow:
        return []
    ratios = " and ".join(f"{each.ratio:.2f}x the time at batch {each.batch}" for each in slow)
    return [
        f"It is not faster than float32 on this machine ({ratios} of {slow[0].rival}); measure "
        "where it will run."
    ]


def refresh_report(bundle: Bundle) -> None:
    """Write the section on artefacts of the model's report anew, if there is a report."""
    from taxon.evaluation.artefacts_view import place_artefacts

    file = bundle.path / REPORT_FILE
    if not file.is_file():
        return
    before = file.read_text(encoding="utf-8")
    page = place_artefacts(before, own_artefacts(bundle))
    if page is not None and page != before:
        write_text(file, page)

"""Export a bundle and prove that each artefact is equal to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from taxon.api.artefact_checks import Reference, check_artefact, measure_speed
from taxon.api.export_choices import check_options, wanted_formats
from taxon.api.export_pictures import OwnPictures
from taxon.api.export_records import artefact_info, refresh_report, speed_notes
from taxon.bundle import ArtefactInfo, Bundle, read_bundle
from taxon.bundle.artefact import artefact_folder, artefact_name, read_artefact
from taxon.bundle.hub import local_folder, require_out
from taxon.bundle.layout import ARTEFACT_FILE
from taxon.core.errors import (
    BundleError,
    CheckFailed,
    Interrupted,
    OutputError,
    TaxonError,
    reason_of,
)
from taxon.core.files import atomic_folder, write_json
from taxon.core.machine import machine
from taxon.data import Columns, data_path
from taxon.exporters import artefact_reports
from taxon.exporters.formats import Format, find_format, require_packages
from taxon.exporters.job import ExportJob, ExportOptions, Written
from taxon.exporters.parity_report import MAX_DROP
from taxon.exporters.portable import RUNNER_FILE, write_runner
from taxon.inference.artefacts import open_artefact
from taxon.models.stack import require_torch_stack

REJECTED = "rejected"
_RUNNER_NOTE = (
    f"{RUNNER_FILE} beside it answers without taxon, on a Raspberry Pi say: python3 {RUNNER_FILE} "
    "PICTURE..."
)
_MOVED = "; the artefact was moved to"


def export(
    path: str | Path,
    formats: str | Sequence[str] = "onnx",
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    columns: Columns | None = None,
    max_drop: float = MAX_DROP,
    frame: tuple[int, int] | None = None,
    max_batch_size: int = 16,
    max_delay_ms: int = 5,
    instances: int = 1,
    tell: Callable[[str], None] | None = None,
    each: Callable[[ArtefactInfo], None] | None = None,
) -> list[ArtefactInfo]:
    """Export a model folder, and compare each artefact with the model on the user's pictures.

    They are compared on the golden pictures, and on those of the run that it was not trained on,
    as far as they are still there; speed is measured in turns with a rival.

    Args:
        path: the model folder, or `hf:user/name[@revision]`, which needs `out`.
        formats: one or several of `taxon.exporters.FORMATS`.
        out: a folder that gets one sub-folder a format; None is the bundle's `artefacts`.
        data: labelled pictures to compare on in place of the run's own; calibration falls back on
            them where the run's own are gone.
        columns: the columns of a table `data`.
        max_drop: what macro-F1 may lose by eight bits, 0 to 1.
        frame: (width, height): whole pictures of this size go in, the resize is in the graph.
        max_batch_size, max_delay_ms, instances: of formats for servers that gather requests: the
            pictures of a batch at most, how long it waits to be filled, copies of the model.
        tell: is told what is found on the way.
        each: is given each artefact as soon as it is there, so that the others are not lost where
            one is rejected.

    Raises:
        ConfigError: an unknown format, or a choice that it does not have.
        MissingDependencyError: a converter is not installed.
        DataError: eight bits are asked for and there are no pictures to calibrate on.
        CheckFailed: artefacts are not equal to the model; they were moved to `rejected/`.
    """
    wanted = wanted_formats([formats] if isinstance(formats, str) else formats, frame)
    options = ExportOptions(max_drop, frame, max_batch_size, max_delay_ms, instances)
    check_options(options)
    folder = local_folder(path)
    if out is None:
        require_out(folder, path)
    require_torch_stack()
    bundle = read_bundle(folder)
    named = None if data is None else data_path(data)
    own = OwnPictures(bundle, named, columns, frame=frame)
    with ExitStack() as stack:
        exporting = _Exporting(bundle, own, options, tell or _nothing, stack)
        return exporting.write_all(wanted, Path(out) if out else None, each or _nothing)


def export_own_onnx(path: Path) -> ArtefactInfo:
    """Write the ONNX that every model folder has, compared on the golden pictures alone.

    Raises:
        CheckFailed: it is not equal to the model; it was moved to `rejected/`.
    """
    return _export_own(path, "onnx")


def export_own_features(path: Path) -> ArtefactInfo:
    """Write the ONNX that gives features into a model folder, compared on the golden pictures.

    Raises:
        CheckFailed: it is not equal to the model; it was moved to `rejected/`.
    """
    return _export_own(path, "onnx-features")


def export_what_can_be(
    path: Path, formats: Sequence[str], out: Path, tell: Callable[[str], None]
) -> dict[str, str]:
    """Export a model folder in several formats, each as `export` does, whatever becomes of others.

    Args:
        out: gets a sub-folder a format.

    Returns:
        Of each format that could not be exported, or is not equal to the model: why.
    """
    bundle = read_bundle(path)
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        exporting = _Exporting(bundle, OwnPictures(bundle), ExportOptions(), tell, stack)
        for name in formats:
            tell(f"{bundle.spec.name}: exporting {name}, into a temporary folder")
            try:
                require_packages(find_format(name))
                exporting.write_all([find_format(name)], out, _nothing)
            except Interrupted:
                raise
            except CheckFailed as error:
                failures[name] = str(error).partition(_MOVED)[0]  # that folder is temporary too
            except Exception as error:  # converters raise what they like
                failures[name] = reason_of(error)
    return failures


def _export_own(path: Path, name: str) -> ArtefactInfo:
    require_torch_stack()
    bundle = read_bundle(path)
    with ExitStack() as stack:
        exporting = _Exporting(bundle, None, ExportOptions(), _nothing, stack)
        return exporting.write_all([find_format(name)], None, _nothing)[0]


class _Exporting:
    """One export of one model: what several formats share is made once.

    Args:
        own: the user's pictures; None, at the end of a training: only the golden ones are compared,
            nothing is timed, and no runner is written.
        stack: removes what is temporary when the export is over.
    """

    def __init__(
        self,
        bundle: Bundle,
        own: OwnPictures | None,
        options: ExportOptions,
        tell: Callable[[str], None],
        stack: ExitStack,
    ) -> None:
        self._bundle = bundle
        self._own = own
        self._options = options
        self._tell = tell
        self._stack = stack

    def write_all(
        self,
        formats: Sequence[Format],
        out: Path | None,
        each: Callable[[ArtefactInfo], None],
    ) -> list[ArtefactInfo]:
        """Write all formats; those that are not equal to the model go to `rejected/`.

        Raises:
            CheckFailed: after the last one, if any was rejected.
        """
        written, rejected = [], []
        for wanted in formats:
            name = artefact_name(wanted.name, self._options.frame)
            folder = out / name if out else artefact_folder(self._bundle.path, name)
            try:
                written.append(self._write(wanted, folder))
                each(written[-1])
            except CheckFailed as error:
                if len(formats) > 1:
                    self._tell(str(error))
                rejected.append(str(error))
        if out is None and written:
            refresh_report(self._bundle)
        if rejected:
            raise CheckFailed("; ".join(rejected))
        return written

    def _write(self, wanted: Format, folder: Path) -> ArtefactInfo:
        from taxon.exporters.writers import WRITERS

        rejected = folder.parent / REJECTED / folder.name
        with atomic_folder(folder, replace_if=ARTEFACT_FILE) as temporary:
            try:
                written = WRITERS[wanted.name](self._job, temporary)
            except OutputError as error:
                raise OutputError(str(error).replace(str(temporary), str(folder))) from error
            if wanted.has_runner and self._own is not None:
                write_runner(temporary)
                written = replace(written, notes=(*written.notes, _RUNNER_NOTE))
            info = self._describe(wanted, temporary, written)
            failed = [report for report in artefact_reports(info) if not report.passed]
            write_json(temporary / ARTEFACT_FILE, info.model_dump(mode="json"))
            if failed:
                with atomic_folder(rejected, replace_if=ARTEFACT_FILE) as copy:
                    shutil.copytree(temporary, copy, dirs_exist_ok=True)
                raise CheckFailed(f"{failed[0].sentence()}{_MOVED} {rejected}")
        _forget_rejected(rejected)
        return info

    def _describe(self, wanted: Format, folder: Path, written: Written) -> ArtefactInfo:
        spec = self._bundle.spec
        info = artefact_info(self._bundle, wanted, folder, written, self._options.frame)
        backend = written.backend or open_artefact(folder, info)
        frame = self._options.frame
        try:
            reports = check_artefact(
                backend,
                self._bundle,
                wanted.precision,
                self._reference,
                frame=frame,
                max_drop=self._options.max_drop,
            )
        except TaxonError:
            raise
        except Exception as error:  # runtimes raise what they like
            raise TaxonError(
                f"{wanted.name} was written and does not run here: {reason_of(error)}"
            ) from error
        update: dict[str, Any] = {
            "parity": tuple(report.model_dump(mode="json") for report in reports)
        }
        if self._own is not None and written.backend is None:
            rival = written.rival or self._reference.backend
            speed = measure_speed(backend, rival, spec.preprocessing, frame)
            notes = (*written.notes, *self._choice_notes(wanted), *speed_notes(wanted, speed))
            update |= {"speed": speed, "machine": machine(), "notes": notes}
        return info.model_copy(update=update)

    def _choice_notes(self, wanted: Format) -> list[str]:
        """Layers are chosen by pictures; where these prove the choice too, it is said."""
        if wanted.precision != "int8" or self._own is None or not self._own.proves_its_choice:
            return []
        return [
            "Among the pictures that it was compared on are those by which its layers were chosen: "
            "`taxon verify --data` on others says more."
        ]

    @cached_property
    def _reference(self) -> Reference:
        """The trained model in PyTorch with what it says of the user's pictures."""
        return Reference(self._bundle, None if self._own is None else self._own.compared())

    @cached_property
    def _job(self) -> ExportJob:
        own = self._own or OwnPictures(self._bundle)
        return ExportJob(self._bundle, own, self._options, self._tell, self._float_onnx)

    def _float_onnx(self) -> Path:
        return self._onnx_file

    @cached_property
    def _onnx_file(self) -> Path:
        """The bundle's own ONNX where it is fresh, else a temporary one."""
        from taxon.exporters.onnx import write_onnx

        folder = artefact_folder(self._bundle.path, "onnx")
        if folder.is_dir():
            try:
                info = read_artefact(folder)
                if info.spec == self._bundle.spec and info.frame is None:
                    return folder / info.file
            except BundleError as error:
                self._tell(f"not started from the ONNX that is there: {error}")
        temporary = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="taxon-"))
        return write_onnx(self._bundle, Path(temporary))


def _forget_rejected(folder: Path) -> None:
    """Remove what an earlier try left, now that the format was written."""
    if (folder / ARTEFACT_FILE).is_file():
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _nothing(_: object) -> None:
    """Tell nobody."""

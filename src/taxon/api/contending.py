"""From what a user names to contenders: artefacts that are there, and those that must be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from taxon.api.export_records import artefact_info
from taxon.api.exporting import export_what_can_be
from taxon.api.latency import require_known
from taxon.benchmarking.contenders import COMPILED, PYTORCH, Contender, reason_not_timed
from taxon.benchmarking.pictures import NoisePictures
from taxon.benchmarking.random_model import write_random_model
from taxon.benchmarking.result import Absent
from taxon.bundle import Bundle, read_bundle
from taxon.bundle.artefact import artefact_folder, read_artefact
from taxon.bundle.hub import own_name
from taxon.bundle.layout import ARTEFACT_FILE, BUNDLE_FILE
from taxon.core.errors import BundleError, Interrupted, reason_of
from taxon.core.files import write_json
from taxon.exporters.formats import find_format, require_packages
from taxon.exporters.job import ExportJob, ExportOptions

Tell = Callable[[str], None]
_OWN_WEIGHTS = (PYTORCH, COMPILED)


@dataclass
class Field:
    """Who takes part.

    Attributes:
        contenders: with, in words, where what is timed comes from.
        absent: who cannot take part, and why.
        notes: what a reader of the result must know.
    """

    contenders: dict[Contender, str] = field(default_factory=dict)
    absent: list[Absent] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def enter(self, model: str, formats: Sequence[str], bundle: Path, folders: Path) -> None:
        """Let artefacts take part that lie in sub-folders of a folder."""
        for name in formats:
            self.contenders[Contender(model, name, bundle, folders / name)] = "exported for this"


def gather(models: Sequence[str], formats: Sequence[str], temporary: Path, tell: Tell) -> Field:
    """Make a contender of each model in each format, in their order.

    Args:
        models: model folders, or names of backbones.
        formats: their names, each once.
        temporary: a folder for what must be made.

    Raises:
        BundleError: a model folder is damaged, or there is none.
        ConfigError: no library has a backbone.
        MissingDependencyError: its library is not installed.
    """
    # What can be wrong comes first, before minutes are spent on exports.
    require_known([word for word in models if not _is_run(word)])
    bundles = {word: read_bundle(Path(word)) for word in models if _is_run(word)}
    found, labels = Field(), _labels(models)
    reasons = {name: reason_not_timed(name) for name in formats}
    able = [name for name, reason in reasons.items() if reason is None]
    for number, (word, label) in enumerate(zip(models, labels, strict=True)):
        found.absent += [
            Absent(model=label, format=name, reason=reason)
            for name, reason in reasons.items()
            if reason is not None
        ]
        own = temporary / str(number)
        if word in bundles:
            _gather_run(bundles[word], label, able, own, found, tell)
        else:
            _gather_backbone(word, label, able, own, found, tell)

    def place(entered: tuple[Contender, str]) -> tuple[int, int]:
        return labels.index(entered[0].model), formats.index(entered[0].format)

    found.contenders = dict(sorted(found.contenders.items(), key=place))
    return found


def _is_run(word: str) -> bool:
    """Whether a word names a model folder; a name without a folder is a backbone's."""
    path = Path(word)
    if (path / BUNDLE_FILE).is_file():
        return True
    if path.exists() or len(path.parts) > 1:
        raise BundleError(
            f"{word} is no model folder (there is no {BUNDLE_FILE} in it); name a folder that "
            "`taxon train` wrote, or a backbone of `taxon models`"
        )
    return False


def _labels(models: Sequence[str]) -> list[str]:
    """Short names that tell models apart: the folder's own where no other has it."""
    short = [own_name(Path(word)) if _is_run(word) else word for word in models]
    return [
        name if short.count(name) == 1 else word for name, word in zip(short, models, strict=True)
    ]


def _gather_run(
    bundle: Bundle, label: str, formats: Sequence[str], temporary: Path, found: Field, tell: Tell
) -> None:
    path, missing = bundle.path, []
    for name in formats:
        folder = artefact_folder(path, name)
        if name in _OWN_WEIGHTS:
            found.contenders[Contender(label, name, path, None)] = "the model folder"
        elif _is_fresh(folder, bundle, tell):
            found.contenders[Contender(label, name, path, folder)] = str(folder)
        else:
            missing.append(name)
    failures = export_what_can_be(path, missing, temporary, tell) if missing else {}
    found.absent += [Absent(model=label, format=name, reason=why) for name, why in failures.items()]
    found.enter(label, [name for name in missing if name not in failures], path, temporary)


def _is_fresh(folder: Path, bundle: Bundle, tell: Tell) -> bool:
    """Whether an artefact is there, of this model as it is now, and takes prepared pictures."""
    if not folder.is_dir():
        return False
    try:
        info = read_artefact(folder)
    except BundleError as error:
        tell(f"{error}; it is made anew for this")
        return False
    return info.spec == bundle.spec and info.frame is None


def _gather_backbone(
    name: str, label: str, formats: Sequence[str], temporary: Path, found: Field, tell: Tell
) -> None:
    folder = temporary / "model"
    folder.mkdir(parents=True)
    tell(f"{name}: a model with random weights is made")
    bundle = write_random_model(name, folder)
    words = f"{name} has random weights and noise to calibrate on: neither changes its speed"
    found.notes.append(f"{words}, and its answers mean nothing")
    float_onnx = cache(partial(_float_onnx, bundle, temporary))
    for wanted in formats:
        if wanted in _OWN_WEIGHTS:
            found.contenders[Contender(label, wanted, folder, None)] = "random weights"
            continue
        tell(f"{name}: exporting {wanted}")
        try:
            _export_random(bundle, wanted, temporary / wanted, float_onnx, tell)
        except Interrupted:
            raise
        except Exception as error:  # converters raise what they like
            found.absent.append(Absent(model=label, format=wanted, reason=reason_of(error)))
        else:
            contender = Contender(label, wanted, folder, temporary / wanted)
            found.contenders[contender] = "random weights, exported for this"


def _float_onnx(bundle: Bundle, temporary: Path) -> Path:
    """The model as ONNX, for the formats that start from it."""
    from taxon.exporters.onnx import write_onnx

    folder = temporary / "float-onnx"
    folder.mkdir()
    return write_onnx(bundle, folder)


def _export_random(
    bundle: Bundle, name: str, folder: Path, float_onnx: Callable[[], Path], tell: Tell
) -> None:
    """Export a model of random weights; whether it is equal to it is not asked."""
    from taxon.exporters.writers import WRITERS

    wanted, spec = find_format(name), bundle.spec
    require_packages(wanted)
    pictures = NoisePictures(spec.preprocessing, len(spec.label_space.names))
    job = ExportJob(bundle, pictures, ExportOptions(max_drop=1.0), tell, float_onnx)
    folder.mkdir()
    info = artefact_info(bundle, wanted, folder, WRITERS[name](job, folder))
    write_json(folder / ARTEFACT_FILE, info.model_dump(mode="json"))

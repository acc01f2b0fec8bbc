"""Core ML packages: what they carry, and that what lies in them computes what the model does."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import fails
from PIL import Image
from safetensors.numpy import load_file
from test_backbones import SPACE, _batch, _train_one_step, _write_bundle

import taxon
from taxon.api.export_pictures import OwnPictures
from taxon.bundle import ArtefactInfo, ModelSpec, read_bundle
from taxon.bundle.artefact import read_artefact
from taxon.bundle.golden import read_golden
from taxon.core.errors import BundleError, CheckFailed, MissingDependencyError
from taxon.core.fingerprint import sha256_file
from taxon.exporters import artefact_reports, coreml
from taxon.exporters.coreml import export_coreml
from taxon.exporters.job import ExportJob, ExportOptions
from taxon.inference import coreml as runtime
from taxon.inference.coreml import CoreMLBackend
from taxon.inference.mil_operations import OPERATIONS
from taxon.inference.pytorch import PyTorchBackend
from taxon.models import build_classifier

PACKAGE = "model.mlpackage"
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
FEW_LEVELS = 1e-2  # of probabilities, for half precision


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The multi-class model in both precisions."""
    out = tmp_path_factory.mktemp("exported")
    taxon.export(run, ["coreml", "coreml-fp16"], out=out)
    return out


@pytest.fixture
def altered(exported: Path, tmp_path: Path) -> Callable[[Path, bytes], Path]:
    """A function that puts other bytes into a file of the package, as an exporter gone wrong."""

    def alter(name: Path, content: bytes) -> Path:
        folder = Path(shutil.copytree(exported / "coreml", tmp_path / "coreml"))
        (folder / PACKAGE / name).write_bytes(content)
        info = json.loads((folder / "artefact.json").read_text())
        key = f"{PACKAGE}/{name.as_posix()}"
        info["files"][key] = sha256_file(folder / key)
        (folder / "artefact.json").write_text(json.dumps(info))
        return folder

    return alter


def _content(folder: Path) -> Any:
    import coremltools  # seconds, which those that run other files need not wait for

    return coremltools.utils.load_spec(str(folder / PACKAGE))


def test_a_picture_goes_in_and_named_probabilities_come_out(run: Path, exported: Path) -> None:
    spec = read_bundle(run).spec
    description = _content(exported / "coreml").description
    (picture,) = description.input
    assert picture.name == "images" and picture.type.WhichOneof("Type") == "imageType"
    assert (picture.type.imageType.width, picture.type.imageType.height) == (32, 32)
    kinds = {each.name: each.type.WhichOneof("Type") for each in description.output}
    assert kinds == {
        "label": "stringType",
        "probabilities": "dictionaryType",
        "logits": "multiArrayType",
        "scope": "multiArrayType",
    }
    assert description.predictedFeatureName == "label"
    assert description.predictedProbabilitiesName == "probabilities"
    assert CoreMLBackend(exported / "coreml" / PACKAGE).program.classes == spec.label_space.names


def test_the_package_carries_what_its_user_needs(run: Path, exported: Path) -> None:
    spec = read_bundle(run).spec
    metadata = _content(exported / "coreml").description.metadata
    carried = metadata.userDefined
    assert ModelSpec.model_validate_json(carried["taxon.spec"]) == spec
    assert json.loads(carried["taxon.labels"]) == list(spec.label_space.names)
    assert json.loads(carried["taxon.thresholds"]) == list(spec.policy.thresholds)
    assert carried["taxon.vision_crop_and_scale"] == "centerCrop"
    assert float(carried["taxon.crop_fraction"]) == spec.preprocessing.crop_fraction
    assert "centred region of the shape square" in carried["taxon.framing"]
    assert metadata.versionString == spec.fingerprint[:12]
    assert spec.backbone in metadata.shortDescription and metadata.license and metadata.author


def test_what_lies_in_the_package_is_compared_on_all_pictures(exported: Path) -> None:
    info = read_artefact(exported / "coreml")
    golden, data = artefact_reports(info)
    assert golden.artefact == data.artefact == "the Core ML program (evaluated by taxon)"
    assert golden.passed and data.passed and data.pictures > 20
    assert max(golden.largest_difference, data.largest_difference) < 1e-5
    assert info.details["operations"]["layer_norm"] == 14 and info.made_with["coremltools"]
    # What was not done is said: nothing was timed, and Apple's runtime did not run.
    assert info.speed == () and "Apple's runtime does not run" in info.notes[0]


def test_half_precision_halves_the_weights_and_rounds(run: Path, exported: Path) -> None:
    whole, half = (exported / name / PACKAGE for name in ("coreml", "coreml-fp16"))
    sizes = [(package / WEIGHTS).stat().st_size for package in (whole, half)]
    assert 0.45 < sizes[1] / sizes[0] < 0.55
    golden = read_golden(run)
    outputs = CoreMLBackend(half).run(golden.images)
    difference = np.abs(outputs.probabilities - golden.probabilities).max()
    assert 1e-6 < difference < FEW_LEVELS
    assert artefact_reports(read_artefact(exported / "coreml-fp16"))[0].precision == "float16"
    # Results, and not the weights alone, are rounded to what the program declares.
    program = CoreMLBackend(half).program
    assert {operation.half for operation in program.operations if operation.kind == "conv"} == {
        True
    }


@pytest.mark.slow
def test_where_answers_change_the_beginning_stays_in_float32(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(coreml.CHANGED_SHARE, "float16", -1.0)  # no share is small enough
    told: list[str] = []
    job = ExportJob(
        read_bundle(run), OwnPictures(read_bundle(run)), ExportOptions(), told.append, Path
    )
    written = coreml.export_coreml_fp16(job, tmp_path)
    program = CoreMLBackend(tmp_path / PACKAGE).program
    halves = [operation.half for operation in program.operations if operation.kind == "conv"]
    assert halves[:3] == [False, False, True] and all(halves[2:])
    assert written.details["kept_in_float32"] == "the first 2 convolutions"
    assert "stay in float32" in written.notes[-1] and "stay in float32" in told[0]


@pytest.mark.slow
def test_multilabel_has_a_tensor_and_no_label(tags_run: Path, tags: Path, tmp_path: Path) -> None:
    (info,) = taxon.export(tags_run, "coreml", out=tmp_path)
    spec = read_bundle(tags_run).spec
    description = _content(tmp_path / "coreml").description
    assert "label" not in [each.name for each in description.output]
    assert description.output[0].name == "probabilities"
    assert list(description.output[0].type.multiArrayType.shape) == [1, len(spec.label_space.names)]
    assert info.outputs["probabilities"].startswith("float32 [1, ")
    golden, data = taxon.verify(tags_run, tmp_path / "coreml", data=tags)
    assert golden.passed and data.passed and data.pictures == 120
    assert data.largest_difference < 1e-5


def test_verify_reads_the_weights_that_lie_there(
    run: Path, exported: Path, altered: Callable[[Path, bytes], Path]
) -> None:
    (report,) = taxon.verify(run, exported / "coreml")
    assert report.passed
    matrix = max(load_file(run / "head.safetensors").values(), key=lambda each: each.size)
    stored = (exported / "coreml" / PACKAGE / WEIGHTS).read_bytes()
    assert stored.count(matrix.tobytes()) == 1
    folder = altered(WEIGHTS, stored.replace(matrix.tobytes(), (-matrix).tobytes()))
    (report,) = taxon.verify(run, folder)
    assert not report.passed and report.largest_difference > 1e-4


def test_a_touched_package_is_refused(run: Path, exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported / "coreml", tmp_path / "coreml"))
    with (folder / PACKAGE / WEIGHTS).open("ab") as file:
        file.write(b"x")
    fails(3, "verify", run, folder, saying="does not have the sha256")


def test_class_labels_in_another_order_are_found(
    run: Path, exported: Path, altered: Callable[[Path, bytes], Path]
) -> None:
    content = _content(exported / "coreml")
    function = content.mlProgram.functions["main"]
    (naming,) = (
        each
        for each in function.block_specializations[function.opset].operations
        if each.type == "classify"
    )
    values = naming.inputs["classes"].arguments[0].value.immediateValue.list.values
    words = [each.immediateValue.tensor.strings.values for each in values]
    words[0][0], words[1][0] = words[1][0], words[0][0]
    folder = altered(MODEL, content.SerializeToString())
    with pytest.raises(BundleError, match="other class labels, or in another order"):
        taxon.verify(run, folder)


def test_another_model_or_other_thresholds_are_found(
    run: Path, tags_run: Path, exported: Path, altered: Callable[[Path, bytes], Path]
) -> None:
    with pytest.raises(CheckFailed, match="exported from another model"):
        taxon.verify(tags_run, exported / "coreml")
    content = _content(exported / "coreml")
    spec = json.loads(content.description.metadata.userDefined["taxon.spec"])
    spec["policy"]["abstain_below"] = 0.123
    content.description.metadata.userDefined["taxon.spec"] = json.dumps(spec)
    with pytest.raises(CheckFailed, match="other class names, preprocessing or thresholds"):
        taxon.verify(run, altered(MODEL, content.SerializeToString()))


@pytest.mark.parametrize("content", [b"", b"no protocol buffer"])
def test_a_damaged_package(
    run: Path, altered: Callable[[Path, bytes], Path], content: bytes
) -> None:
    with pytest.raises(BundleError, match=r"model\.mlpackage"):
        taxon.verify(run, altered(MODEL, content))


def test_coremltools_missing(run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'taxon-vision\[coreml\]'"):
        taxon.verify(run, exported / "coreml")


def test_on_a_mac_core_ml_computes(
    run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for Apple's runtime gets pictures, and its probabilities are put in order."""
    golden, names = read_golden(run), read_bundle(run).spec.label_space.names
    seen = []

    def predict(given: dict[str, Image.Image]) -> dict[str, Any]:
        place = len(seen)
        seen.append(np.asarray(given["images"]).transpose(2, 0, 1))
        named = dict(zip(names, golden.probabilities[place].tolist(), strict=True))
        assert golden.scope is not None
        return {
            "label": "any",
            "probabilities": dict(sorted(named.items(), reverse=True)),
            "logits": golden.logits[place : place + 1],
            "scope": golden.scope[place : place + 1],
        }

    monkeypatch.setattr(runtime, "on_apple", lambda: True)
    monkeypatch.setattr("coremltools.models.MLModel", lambda path: SimpleNamespace(predict=predict))
    (report,) = taxon.verify(run, exported / "coreml")
    assert report.passed and report.artefact == "Core ML"
    np.testing.assert_array_equal(np.stack(seen), golden.images)


def _job(bundle_path: Path) -> ExportJob:
    """What an exporter receives, as far as Core ML asks for it."""
    unused: Any = None
    return ExportJob(read_bundle(bundle_path), unused, ExportOptions(), print, unused)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "way"),
    [
        ("test_vit", 160, "torch.jit.trace"),
        ("test_efficientnet", 64, "torch.export"),
        ("tf_mobilenetv3_small_100", 64, "torch.export"),
    ],
)
def test_other_families(name: str, size: int, way: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(3, name, weights="none", input_size=(size, size))
    _train_one_step(classifier, size)
    _write_bundle(classifier, size, tmp_path)
    written = export_coreml(_job(tmp_path), tmp_path)
    assert written.details["converted_from"] == way
    images = _batch(4, size, seed=1)
    expected = PyTorchBackend(read_bundle(tmp_path)).run(images)
    assert written.backend is not None
    actual = written.backend.run(images)
    spread = float(expected.logits.std())
    assert spread > 1e-3 and actual.scope is None
    assert np.abs(actual.logits - expected.logits).max() < 1e-3 * spread
    assert np.abs(actual.probabilities - expected.probabilities).max() < 1e-4
    assert len(SPACE.names) == actual.probabilities.shape[1]


@pytest.mark.slow
def test_an_operation_that_is_unknown_here(
    run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the converted program is compared, which is said, and only a Mac can verify."""
    monkeypatch.delitem(OPERATIONS, "layer_norm")
    info: ArtefactInfo
    (info,) = taxon.export(run, "coreml", out=tmp_path)
    golden = artefact_reports(info)[0]
    assert golden.passed
    assert golden.artefact == "the program of torch.export that Core ML was converted from"
    assert "and not the package: taxon cannot evaluate layer_norm" in info.notes[0]
    fails(2, "verify", run, tmp_path / "coreml", saying="verify it on a Mac")


def test_nothing_is_left_where_the_conversion_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: Any) -> None:
        raise ValueError("no such operation\nand more")

    monkeypatch.setattr(coreml, "_WAYS", {"torch.export": no, "torch.jit.trace": no})
    line = fails(1, "export", run, "--to", "coreml", "--out", tmp_path, saying="to Core ML")
    assert "through torch.export: no such operation; through torch.jit.trace" in line
    assert not list(tmp_path.iterdir())

"""ONNX export, what the file carries, and verification that catches what it must."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quick_exporter import quick_exporter

import taxon
from taxon.bundle import ModelSpec, read_bundle
from taxon.bundle.golden import read_golden
from taxon.core.errors import BundleError, CheckFailed, ConfigError, OutputError
from taxon.core.fingerprint import sha256_file
from taxon.exporters import compare_golden
from taxon.inference import Outputs, load_predictor
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

Copy = Callable[[Path], Path]
ONNX = Path("artefacts/onnx/model.onnx")
ARTEFACT = Path("artefacts/onnx/artefact.json")


def test_contract_of_the_graph(run: Path) -> None:
    model = onnx.load(run / ONNX)
    spec = read_bundle(run).spec

    def shape(value: onnx.ValueInfoProto) -> list[str | int]:
        return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    (images,) = model.graph.input
    assert images.name == "images" and shape(images) == ["N", 3, 32, 32]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in model.graph.output] == ["probabilities", "logits", "scope"]
    classes = len(spec.label_space.names)
    sizes = [["N", classes], ["N", classes], ["N"]]
    assert [shape(output) for output in model.graph.output] == sizes
    carried = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelSpec.model_validate_json(carried["taxon.spec"]) == spec


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_dynamic_batch_equals_pytorch(run: Path, batch: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    left = load_predictor(run, backend="onnx").run(images)
    right = load_predictor(run, backend="torch").run(images)
    assert left.probabilities.shape == (batch, len(read_bundle(run).spec.label_space.names))
    np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-5)
    np.testing.assert_allclose(left.logits, right.logits, atol=1e-4)
    np.testing.assert_allclose(left.probabilities.sum(axis=1), 1, atol=1e-5)
    assert left.scope is not None and right.scope is not None
    np.testing.assert_allclose(left.scope, right.scope, atol=1e-3)


def test_multilabel_graph_ends_in_a_sigmoid(tags_run: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    outputs = load_predictor(tags_run, backend="onnx").run(images)
    policy = read_bundle(tags_run).spec.policy
    calibrated = outputs.logits * np.array(policy.scale) + np.array(policy.bias)
    np.testing.assert_allclose(outputs.probabilities, 1 / (1 + np.exp(-calibrated)), atol=1e-5)


def test_verify_on_golden_and_on_data(run: Path, defects: Path) -> None:
    golden, data = taxon.verify(run, data=defects)
    assert golden.passed and golden.source == "golden" and not golden.inexact_inputs
    assert data.passed and data.pictures == 180 and data.top1 is not None
    assert data.top1["reference"] == data.top1["artefact"]


@pytest.mark.usefixtures("quickly_exported")
def test_export_elsewhere(run: Path, tmp_path: Path) -> None:
    (info,) = taxon.export(run, ["onnx"], out=tmp_path)
    assert info.files == {info.file: sha256_file(tmp_path / "onnx" / info.file)}
    (report,) = taxon.verify(run, tmp_path / "onnx")
    assert report.passed


def test_unknown_format_names_the_allowed(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed: onnx.*Did you mean 'onnx'"):
        taxon.export(run, ["onx"])


def _alter_weights(file: Path, factor: float) -> None:
    """Scale the matrices of the network, as a bad conversion might."""
    model = onnx.load(file)
    for matrix in [entry for entry in model.graph.initializer if len(entry.dims) == 2]:
        scaled = (numpy_helper.to_array(matrix) * factor).astype(np.float32)
        matrix.CopyFrom(numpy_helper.from_array(scaled, matrix.name))
    onnx.save(model, file)


def test_verify_says_no_to_other_weights(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    _alter_weights(copy / ONNX, -3.0)
    with pytest.raises(CheckFailed, match="does not have the sha256"):
        taxon.verify(copy)
    info = json.loads((copy / ARTEFACT).read_text())
    info["files"]["model.onnx"] = sha256_file(
        copy / ONNX
    )  # as if the exporter itself had gone wrong
    (copy / ARTEFACT).write_text(json.dumps(info))
    (report,) = taxon.verify(copy)
    assert not report.passed and report.largest_difference > 1e-4
    assert "NOT EQUAL" in report.sentence()


def test_verify_says_no_to_swapped_class_names(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    model = onnx.load(copy / ONNX)
    spec = json.loads(model.metadata_props[0].value)
    spec["label_space"]["names"] = sorted(f"x{name}" for name in spec["label_space"]["names"])
    onnx.helper.set_model_props(model, {"taxon.spec": json.dumps(spec)})
    onnx.save(model, copy / ONNX)
    info = json.loads((copy / ARTEFACT).read_text())
    info["files"]["model.onnx"] = sha256_file(copy / ONNX)
    (copy / ARTEFACT).write_text(json.dumps(info))
    with pytest.raises(CheckFailed, match="other class names"):
        taxon.verify(copy)


@pytest.mark.usefixtures("quickly_exported")
def test_failed_export_goes_to_rejected(
    run: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(run)
    shutil.rmtree(copy / "artefacts")
    honest = OnnxRuntimeBackend.run

    def wrong(self: OnnxRuntimeBackend, images: np.ndarray) -> Outputs:
        outputs = honest(self, images)
        return Outputs(outputs.logits, outputs.probabilities + np.float32(0.01))

    monkeypatch.setattr(OnnxRuntimeBackend, "run", wrong)
    with pytest.raises(CheckFailed, match="rejected"):
        taxon.export(copy, ["onnx"])
    assert not (copy / "artefacts" / "onnx").exists()
    assert (copy / "artefacts" / "rejected" / "onnx" / "model.onnx").is_file()


def test_not_a_number_is_never_equal(run: Path) -> None:
    golden, spec = read_golden(run), read_bundle(run).spec

    class Broken:
        name = "broken"

        def run(self, images: np.ndarray) -> Outputs:
            return Outputs(golden.logits, np.full_like(golden.probabilities, np.nan))

    assert not compare_golden(Broken(), golden, spec).passed


def test_artefact_of_another_model_is_refused(run: Path, tags_run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    shutil.rmtree(copy / "artefacts")
    shutil.copytree(tags_run / "artefacts", copy / "artefacts")
    with pytest.raises(CheckFailed, match="exported from another model"):
        taxon.verify(copy)
    with pytest.raises(BundleError, match="exported from another model"):
        taxon.load(copy)


def test_verify_checks_the_very_file_that_is_named(
    run: Path, tags_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run / ONNX.parent, tmp_path / "onnx"))
    other = Path(shutil.copy(tags_run / ONNX, folder / "other.onnx"))
    with pytest.raises(CheckFailed, match="exported from another model"):
        taxon.verify(run, other)
    (report,) = taxon.verify(run, shutil.copy(run / ONNX, tmp_path / "alone.onnx"))
    assert report.passed


def test_export_never_replaces_what_it_did_not_write(run: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="taxon did not write it"):
        taxon.export(run, "onnx", out=tmp_path)
    assert (tmp_path / "onnx" / "thesis.txt").read_text() == "years of work"
    with quick_exporter():
        taxon.export(run, out=str(tmp_path / "new"))
        taxon.export(str(run), "onnx", out=tmp_path / "new")  # its own work it may replace


def test_model_without_artefact_says_how_to_make_one(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    shutil.rmtree(copy / "artefacts")
    with pytest.raises(BundleError, match=r"taxon export .* --to onnx"):
        taxon.verify(copy)
    with pytest.raises(BundleError, match=r"taxon export .* --to onnx"):
        taxon.load(copy, backend="onnx")
    assert taxon.load(copy).predictor.backend.name == "pytorch"


@pytest.mark.parametrize("content", [b"", b"no onnx", None])
def test_damaged_onnx_file(run: Path, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content if content is not None else (run / ONNX).read_bytes()[:-4000])
    with pytest.raises(BundleError, match=r"model\.onnx"):
        taxon.load(file)


def test_onnx_file_of_somebody_else(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", value[:1], value[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="carries no class names"):
        taxon.load(tmp_path / "model.onnx")


def test_artefact_alone_predicts_as_the_bundle_does(
    run: Path, defects: Path, tmp_path: Path
) -> None:
    shutil.copy(run / ONNX, tmp_path / "alone.onnx")
    picture = next((defects / "crack").iterdir())
    expected = taxon.load(run).predict(picture)
    assert taxon.load(tmp_path / "alone.onnx").predict(picture) == expected
    assert taxon.load(run / "artefacts" / "onnx").predict(picture) == expected

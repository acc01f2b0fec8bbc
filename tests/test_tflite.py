"""TFLite: conversion, fewer bits, what the file carries, and the converter's own environment.

A conversion takes half a minute: the tests share one of each model.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import taxon as command
from test_backbones import _batch, _train_one_step, _write_bundle

import taxon
from taxon.bundle import ArtefactInfo, read_bundle
from taxon.core.errors import BundleError, CheckFailed, MissingDependencyError, TaxonError
from taxon.core.fingerprint import sha256_file
from taxon.exporters import artefact_reports
from taxon.exporters.converter_environment import converter_python, run_converter
from taxon.exporters.tflite_metadata import attach_metadata
from taxon.inference import load_predictor
from taxon.inference.litert import LiteRtBackend
from taxon.inference.pytorch import PyTorchBackend
from taxon.models import build_classifier

FORMATS = ("tflite", "tflite-fp16", "tflite-int8")


def _exported(run: Path, formats: Sequence[str], out: Path) -> dict[str, ArtefactInfo]:
    """`file` is an absolute path."""
    return {
        info.format: info.model_copy(update={"file": str(out / info.format / info.file)})
        for info in taxon.export(run, formats, out=out)
    }


@pytest.fixture(scope="module")
def artefacts(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtefactInfo]:
    """One model in float32."""
    return _exported(run, ["tflite"], tmp_path_factory.mktemp("tflite"))


@pytest.fixture(scope="module")
def all_artefacts(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtefactInfo]:
    """All three formats of one model, in one export."""
    return _exported(run, FORMATS, tmp_path_factory.mktemp("all-tflite"))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def test_float32_answers_as_the_model_does(
    run: Path, artefacts: dict[str, ArtefactInfo], pictures: np.ndarray
) -> None:
    info = artefacts["tflite"]
    golden, data = artefact_reports(info)
    for report in (golden, data):
        assert report.passed and report.largest_difference < 1e-4 and not report.changed_decisions
    assert golden.source == "golden" and data.source == "data" and data.pictures > 20
    expected = load_predictor(run, backend="torch").run(pictures)
    actual = LiteRtBackend(Path(info.file)).run(pictures)
    np.testing.assert_allclose(actual.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(actual.logits, expected.logits, atol=1e-4)
    assert actual.scope is not None and expected.scope is not None
    np.testing.assert_allclose(actual.scope, expected.scope, atol=1e-3)


@pytest.mark.slow
def test_fewer_bits_are_smaller_and_answer_nearly_as_the_model_does(
    all_artefacts: dict[str, ArtefactInfo],
) -> None:
    full, half, eight = (all_artefacts[name] for name in FORMATS)
    assert half.size < 0.65 * full.size and eight.size < 0.5 * full.size
    for info in (half, eight):
        assert all(report.passed for report in artefact_reports(info))
    *_, data = artefact_reports(half)
    assert data.mean_difference < 1e-3 and data.changed_decisions <= 1


@pytest.mark.slow
def test_eight_bits_say_what_was_tried_and_how_fast_they_are(
    all_artefacts: dict[str, ArtefactInfo],
) -> None:
    info = all_artefacts["tflite-int8"]
    *passed_over, chosen = info.details["tried"]
    assert chosen["variant"] == info.details["variant"] and chosen["holds"]
    assert all("failure" in trial or not trial["holds"] for trial in passed_over)
    slower = any(speed.ratio >= 0.97 for speed in info.speed)
    assert any("not faster than float32 on this machine" in note for note in info.notes) is slower
    assert {speed.rival for speed in info.speed} == {"litert in float32"}


@pytest.mark.parametrize(
    "name", ["tflite", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS[1:])]
)
def test_contract_of_the_file(
    run: Path, request: pytest.FixtureRequest, name: str, pictures: np.ndarray
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    fixture = "artefacts" if name == "tflite" else "all_artefacts"
    file = request.getfixturevalue(fixture)[name].file
    runner = Interpreter(file).get_signature_runner("serving_default")
    (images,) = runner.get_input_details().items()
    assert images[0] == "images" and images[1]["dtype"] is np.uint8
    assert list(images[1]["shape"]) == [1, 32, 32, 3]
    outputs = {key: value["dtype"] for key, value in runner.get_output_details().items()}
    assert outputs == dict.fromkeys(("probabilities", "logits", "scope"), np.float32)
    spec = read_bundle(run).spec
    assert LiteRtBackend(Path(file)).spec() == spec
    with zipfile.ZipFile(file) as archive:
        labels = archive.read("labels.txt").decode().splitlines()
    assert tuple(labels) == spec.label_space.names
    row = runner(images=np.ascontiguousarray(pictures[:1].transpose(0, 2, 3, 1)))
    assert row["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_buffers_are_aligned_as_the_schema_demands(artefacts: dict[str, ArtefactInfo]) -> None:
    from ai_edge_litert.schema_py_generated import Model

    content = np.fromfile(artefacts["tflite"].file, np.uint8)
    model = Model.GetRootAs(content.tobytes())
    buffers = [model.Buffers(place) for place in range(model.BuffersLength())]
    starts = [
        buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if not buffer.DataIsNone()
    ]
    assert starts and all(start % 16 == 0 for start in starts)


def test_no_pictures_give_no_rows(artefacts: dict[str, ArtefactInfo]) -> None:
    outputs = LiteRtBackend(Path(artefacts["tflite"].file)).run(np.zeros((0, 3, 32, 32), np.uint8))
    assert outputs.probabilities.shape == outputs.logits.shape == (0, 6)
    assert outputs.scope is not None and outputs.scope.shape == (0,)


def test_threads_share_one_interpreter(
    artefacts: dict[str, ArtefactInfo], pictures: np.ndarray
) -> None:
    backend = LiteRtBackend(Path(artefacts["tflite"].file), threads=1)
    alone = [backend.run(pictures[[place]]).logits for place in range(5)] * 20
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda place: backend.run(pictures[[place % 5]]).logits, range(100))
        )
    np.testing.assert_array_equal(together, alone)


def test_command_line_predicts_and_verifies(
    run: Path, artefacts: dict[str, ArtefactInfo], defects: Path
) -> None:
    folder = Path(artefacts["tflite"].file).parent
    picture = next((defects / "crack").iterdir())
    done = command("predict", folder, picture, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == taxon.load(run).predict(picture).label
    done = command("verify", run, folder)
    assert done.returncode == 0 and "equal" in done.stdout, (done.stdout, done.stderr)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_file_is_refused(
    artefacts: dict[str, ArtefactInfo], tmp_path: Path, share: float
) -> None:
    content = Path(artefacts["tflite"].file).read_bytes()
    file = tmp_path / "cut.tflite"
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BundleError, match=r"cut\.tflite is truncated"):
        LiteRtBackend(file)


def test_damaged_graph_is_refused(artefacts: dict[str, ArtefactInfo], tmp_path: Path) -> None:
    content = bytearray(Path(artefacts["tflite"].file).read_bytes())
    content[100:4000] = b"\xff" * 3900
    file = tmp_path / "damaged.tflite"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged\.tflite cannot be loaded by LiteRT"):
        LiteRtBackend(file)


def test_file_of_somebody_else_carries_no_specification(
    artefacts: dict[str, ArtefactInfo], tmp_path: Path
) -> None:
    content = Path(artefacts["tflite"].file).read_bytes()
    file = tmp_path / "foreign.tflite"
    file.write_bytes(content.replace(b"taxon.spec", b"other.spec"))
    with pytest.raises(BundleError, match="carries no class names"):
        LiteRtBackend(file).spec()


def test_verify_says_no_to_other_class_names_in_the_file(
    run: Path, artefacts: dict[str, ArtefactInfo], tmp_path: Path
) -> None:
    source = Path(artefacts["tflite"].file)
    folder = Path(shutil.copytree(source.parent, tmp_path / "tflite"))
    spec = read_bundle(run).spec
    names = tuple(sorted(f"x{name}" for name in spec.label_space.names))
    other = spec.label_space.model_copy(update={"names": names})
    attach_metadata(source, folder / source.name, spec.model_copy(update={"label_space": other}))
    info = json.loads((folder / "artefact.json").read_text())
    info["files"][source.name] = sha256_file(folder / source.name)
    (folder / "artefact.json").write_text(json.dumps(info))
    with pytest.raises(CheckFailed, match="other class names"):
        taxon.verify(run, folder)


@pytest.mark.slow
def test_whole_frames_with_the_resize_in_the_graph(run: Path, tmp_path: Path) -> None:
    (info,) = taxon.export(run, "tflite", out=tmp_path, frame=(72, 64))
    assert info.frame == (72, 64) and info.inputs["images"].startswith("uint8 [1, 64, 72, 3]")
    assert all(report.passed for report in artefact_reports(info))
    reports = taxon.verify(run, tmp_path / "tflite-72x64")
    assert all(report.passed for report in reports)


@pytest.mark.slow
def test_multilabel_ends_in_a_sigmoid(tags_run: Path, tmp_path: Path) -> None:
    (info,) = taxon.export(tags_run, "tflite", out=tmp_path)
    assert all(report.passed for report in artefact_reports(info))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    outputs = LiteRtBackend(tmp_path / "tflite" / info.file).run(images)
    np.testing.assert_allclose(outputs.probabilities, 1 / (1 + np.exp(-outputs.logits)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_vit", 32),
        ("test_efficientnet", 64),
        ("tf_mobilenetv3_small_100", 64),
        ("yolo11n-cls", 64),
    ],
)
def test_families_convert(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(3, name, weights="none", input_size=(size, size))
    _train_one_step(classifier, size)
    _write_bundle(classifier, size, tmp_path)
    bundle = read_bundle(tmp_path)
    converted, file = tmp_path / "converted.tflite", tmp_path / "model.tflite"
    module = "taxon.exporters.tflite_convert"
    run_converter(converter_python(print), module, [tmp_path, converted], name)
    attach_metadata(converted, file, bundle.spec)
    images = _batch(5, size, seed=1)
    expected, actual = PyTorchBackend(bundle).run(images), LiteRtBackend(file).run(images)
    spread = float(expected.logits.std())
    assert spread > 1e-3
    assert np.abs(actual.logits - expected.logits).max() < 1e-3 * spread


def test_no_network_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(MissingDependencyError, match="pip download litert-torch==") as raised:
        converter_python(said.append)
    assert "\n" not in str(raised.value) and "No matching distribution" in str(raised.value)
    assert len(said) == 1 and "MB" in said[0] and str(tmp_path) in said[0]
    assert not list((tmp_path / "converters").glob("litert*/"))  # nothing half-made


def test_environment_that_is_there_is_used_with_no_network(
    artefacts: dict[str, ArtefactInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    python = converter_python(said.append)
    assert not said and str(python).startswith(os.environ["TAXON_CACHE"])


def test_failure_of_the_converter_is_its_last_error(tmp_path: Path) -> None:
    with pytest.raises(TaxonError, match=r"^it could not be converted: .*BundleError: no such"):
        run_converter(
            Path(sys.executable),
            "taxon.exporters.tflite_trial",
            [tmp_path / "missing", tmp_path, tmp_path],
            "it could not be converted",
        )

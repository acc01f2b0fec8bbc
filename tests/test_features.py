"""The artefact that gives features: equal to the model, or refused; and the embedder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import fails, taxon

import taxon as api
from taxon.api.features import ensure_features
from taxon.bundle import read_bundle
from taxon.bundle.artefact import read_artefact
from taxon.core.errors import BundleError, CheckFailed, ImageError
from taxon.exporters import artefact_reports
from taxon.inference import Outputs, load_embedder
from taxon.inference.onnx_runtime import OnnxRuntimeBackend
from taxon.inference.pytorch import PyTorchBackend

Copy = Callable[[Path], Path]
FOLDER = Path("artefacts/onnx-features")


@pytest.fixture
def images() -> np.ndarray:
    """Prepared pictures."""
    return np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


def test_it_gives_what_goes_into_the_head(features_run: Path, images: np.ndarray) -> None:
    expected = PyTorchBackend(read_bundle(features_run), gives_features=True).run(images)
    embedder = load_embedder(features_run)
    features = embedder.run(images)
    assert expected.features is not None
    assert features.shape == (5, embedder.size) and features.dtype == np.float32
    np.testing.assert_allclose(features, expected.features, rtol=1e-3, atol=1e-5)
    outputs = embedder.outputs(images)
    np.testing.assert_allclose(outputs.probabilities, expected.probabilities, atol=1e-5)
    assert outputs.scope is not None
    assert embedder.spec == read_bundle(features_run).spec


def test_the_head_alone_gives_the_same_answers(features_run: Path, images: np.ndarray) -> None:
    embedder = load_embedder(features_run)
    outputs = embedder.outputs(images)
    alone = embedder.head.run(embedder.run(images))
    np.testing.assert_allclose(alone.probabilities, outputs.probabilities, atol=1e-6)
    np.testing.assert_allclose(alone.logits, outputs.logits, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bytes(features_run: Path, images: np.ndarray) -> None:
    expected = load_embedder(features_run, threads=1).run(images).tobytes()
    embedder = load_embedder(features_run, threads=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(embedder.run, [images] * 8))
    assert {features.tobytes() for features in found} == {expected}


def test_it_prepares_as_the_predictor_does(features_run: Path, defects: Path) -> None:
    embedder = load_embedder(features_run)
    picture = next(defects.rglob("*.jpg"))
    model = api.load(features_run).predictor
    prepared = embedder.prepare(picture.read_bytes(), picture.name)
    assert prepared.dtype == np.uint8 and prepared.shape == (3, 32, 32)
    np.testing.assert_array_equal(prepared, model.prepare(picture.read_bytes()))
    with pytest.raises(ImageError, match="broken"):
        embedder.prepare(b"no picture", "broken")


def test_command_exports_compares_and_verifies(run: Path, tmp_path: Path) -> None:
    done = taxon("export", run, "--to", "onnx-features", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    info = read_artefact(tmp_path / "onnx-features")
    assert set(info.outputs) == {"probabilities", "logits", "scope", "features"}
    assert info.outputs["features"] == f"float32 [N, {info.details['feature_count']}]"
    golden, data = artefact_reports(info)
    for report in (golden, data):
        assert report.largest_feature_difference is not None
        assert 0 <= report.largest_feature_difference < 1e-4
    assert done.stdout.count("of their size apart (allowed 1e-04)") == 2
    verified = taxon("verify", run, tmp_path / "onnx-features")
    assert verified.returncode == 0 and "features at most" in verified.stdout
    # Another format says nothing of features.
    assert "of their size" not in taxon("verify", run).stdout


def test_the_artefact_alone_will_do(features_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(features_run / FOLDER, tmp_path / "alone"))
    sizes = {load_embedder(path).size for path in (folder, folder / "model.onnx", features_run)}
    assert len(sizes) == 1


def test_a_model_without_it_says_how_to_make_one(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"taxon export .* --to onnx-features"):
        load_embedder(run)
    for path in (run / "artefacts/onnx", run / "artefacts/onnx/model.onnx"):
        with pytest.raises(BundleError, match=r"gives no features.*--to onnx-features"):
            load_embedder(path)
    with pytest.raises(BundleError, match="neither a model folder"):
        load_embedder(tmp_path)


def test_one_of_another_model_is_refused(features_run: Path, tags_run: Path, copy_of: Copy) -> None:
    copy = copy_of(tags_run)
    shutil.copytree(features_run / FOLDER, copy / FOLDER)
    with pytest.raises(BundleError, match="exported from another model"):
        load_embedder(copy)
    told: list[str] = []
    ensure_features(copy, tell=told.append)
    assert "cannot be used: the onnx-features artefact was exported from another" in told[0]
    assert "are equal on" in told[1] and len(told) == 2
    assert load_embedder(copy).spec == read_bundle(copy).spec
    ensure_features(copy, tell=told.append)
    assert len(told) == 2


def test_altered_and_rejected_ones_are_refused(features_run: Path, copy_of: Copy) -> None:
    copy = copy_of(features_run)
    file = copy / FOLDER / "artefact.json"
    info = json.loads(file.read_text())
    info["parity"][0]["passed"] = False
    file.write_text(json.dumps(info))
    with pytest.raises(BundleError, match="was rejected when it was exported"):
        load_embedder(copy)
    (copy / FOLDER / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="does not have the sha256"):
        load_embedder(copy / FOLDER)


@pytest.mark.parametrize("wrong", [np.float32(1.01), np.float32(np.nan)])
def test_other_features_are_not_accepted(
    wrong: np.float32, run: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(run)
    honest = OnnxRuntimeBackend.run

    def scaled(self: OnnxRuntimeBackend, images: np.ndarray) -> Outputs:
        outputs = honest(self, images)
        assert outputs.features is not None
        return replace(outputs, features=outputs.features * wrong)

    monkeypatch.setattr(OnnxRuntimeBackend, "run", scaled)
    with pytest.raises(CheckFailed, match=r"NOT EQUAL.*features at most .*rejected"):
        ensure_features(copy)
    assert not (copy / FOLDER).exists()
    assert (copy / "artefacts/rejected/onnx-features/model.onnx").is_file()


def test_an_artefact_alone_is_left_as_it_is(features_run: Path) -> None:
    told: list[str] = []
    ensure_features(features_run / FOLDER, tell=told.append)
    assert not told


def test_whole_frames_are_not_for_it(run: Path) -> None:
    fails(
        2, "export", run, "--to", "onnx-features", "--frame", "64x64",
        saying="takes no whole frames",
    )  # fmt: skip

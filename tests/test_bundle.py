"""The bundle: complete, checked, readable by timm; altered or foreign parts are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import taxon
from taxon.bundle import read_bundle
from taxon.bundle.golden import differing_inputs, read_golden
from taxon.bundle.layout import HASHED_FILES, OPTIONAL_FILES
from taxon.core.errors import BundleError
from taxon.inference import load_predictor
from taxon.models.restore import restore_classifier
from taxon.preprocessing import prepare

Copy = Callable[[Path], Path]


def test_layout(run: Path) -> None:
    expected = {
        *HASHED_FILES,
        *OPTIONAL_FILES,
        "bundle.json",
        "manifest.parquet",
        "metrics.json",
        "reference.json",
        "README.md",
        "history.csv",
        "report/report.html",
        "report/predictions.parquet",
        "artefacts/onnx/model.onnx",
        "artefacts/onnx/artefact.json",
    }
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert expected <= found
    others = found - expected
    assert all(
        (name.startswith("golden/") and name.endswith(".png"))
        or re.fullmatch(r"report/figures/[a-z-]+\.(svg|png)", name)
        for name in others
    )
    assert not any(path.suffix in (".pkl", ".pt", ".pth") for path in run.rglob("*"))


@pytest.mark.parametrize("name", [*HASHED_FILES, *OPTIONAL_FILES])
def test_altered_file_is_refused_by_name(run: Path, copy_of: Copy, name: str) -> None:
    copy = copy_of(run)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not have the sha256"):
        read_bundle(copy)


@pytest.mark.parametrize("name", HASHED_FILES)
def test_missing_file_is_refused_by_name(run: Path, copy_of: Copy, name: str) -> None:
    copy = copy_of(run)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_bundle(copy)


def test_card_and_metrics_may_be_rewritten(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    (copy / "README.md").write_text("mine")
    (copy / "metrics.json").unlink()
    assert read_bundle(copy).info.fingerprint == read_bundle(run).info.fingerprint


def test_newer_format_says_upgrade(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    info = json.loads((copy / "bundle.json").read_text())
    info["format_version"] = 99
    (copy / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"format version 99.*pip install --upgrade"):
        read_bundle(copy)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format_version": 1}'])
def test_damaged_bundle_json(run: Path, copy_of: Copy, content: str) -> None:
    copy = copy_of(run)
    (copy / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(copy)


def test_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="taxon train"):
        taxon.load(tmp_path)


def test_golden_inputs_are_exact_and_outputs_are_the_models(run: Path) -> None:
    golden = read_golden(run)
    spec = read_bundle(run).spec
    assert 1 <= len(golden.pictures) <= 8
    assert differing_inputs(golden, spec.preprocessing) == []
    np.testing.assert_array_equal(prepare(golden.pictures[0], spec.preprocessing), golden.images[0])
    predictor = load_predictor(run, backend="torch")
    outputs = predictor.run(golden.images)
    np.testing.assert_allclose(outputs.probabilities, golden.probabilities, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, golden.logits, atol=1e-4)


def test_backbone_loads_into_timm_bit_equal(run: Path) -> None:
    ours = restore_classifier(read_bundle(run))
    theirs = timm.create_model(f"local-dir:{run}", pretrained=True, num_classes=0).eval()
    left, right = ours.backbone.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.backbone(images), theirs(images))
    data = timm.data.resolve_model_data_config(theirs)
    spec = read_bundle(run).spec.preprocessing
    assert tuple(data["mean"]) == spec.mean
    assert tuple(data["input_size"]) == (3, spec.height, spec.width)


def test_moving_the_bundle_changes_nothing(run: Path, copy_of: Copy, defects: Path) -> None:
    picture = next((defects / "good").iterdir())
    moved = copy_of(run)
    assert taxon.load(moved).predict(picture) == taxon.load(run).predict(picture)


def test_bundle_json_must_state_every_hash(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    info = json.loads((copy / "bundle.json").read_text())
    assert any(name.endswith(".png") for name in info["files"])
    info["files"] = {}
    (copy / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match="states no sha256"):
        read_bundle(copy)


def test_files_are_readable_as_the_user_wishes(run: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in run.rglob("*") if path.is_file()}
    assert len(modes) == 1  # safetensors alone would make its files private

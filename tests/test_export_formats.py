"""Formats beside ONNX: what each carries, that it is equal, and that damage is refused by name."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from commands import fails, require_failure, taxon, taxon_process

import taxon as api
from taxon.benchmarking.random_model import write_random_model
from taxon.bundle import ArtefactInfo, ModelSpec, read_bundle
from taxon.bundle.artefact import read_artefact, read_info
from taxon.core.errors import (
    BundleError,
    CheckFailed,
    ConfigError,
    DataError,
    MissingDependencyError,
    OutputError,
    TaxonError,
)
from taxon.core.predictions import ImageBatch
from taxon.exporters import FORMATS, artefact_reports, formats
from taxon.exporters.executorch import export_executorch
from taxon.exporters.job import ExportJob, ExportOptions
from taxon.exporters.writers import WRITERS
from taxon.inference import Outputs, load_predictor
from taxon.inference.artefacts import open_artefact
from taxon.inference.executorch import ExecuTorchBackend
from taxon.inference.onnx_runtime import OnnxRuntimeBackend

Copy = Callable[[Path], Path]
EXACT = ("torch-export", "openvino", "executorch")
HALF = ("onnx-fp16", "openvino-fp16")
QUICK = (*EXACT[:2], *HALF)
# Lowering for ExecuTorch takes as long as all of them together.
NAMES = (*QUICK, pytest.param("executorch", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in several formats: their folders."""
    out = tmp_path_factory.mktemp("exported")
    told: list[str] = []
    written = api.export(run, QUICK, out=out, tell=told.append)
    assert [info.format for info in written] == [*QUICK] and not told
    return {info.format: out / info.format for info in written}


@pytest.fixture(scope="module")
def executorch(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder in the format of ExecuTorch."""
    out = tmp_path_factory.mktemp("executorch")
    api.export(run, "executorch", out=out)
    return out / "executorch"


@pytest.fixture
def folder(name: str, request: pytest.FixtureRequest) -> Path:
    """The folder of the format that a test is about."""
    if name == "executorch":
        return Path(request.getfixturevalue("executorch"))
    return Path(request.getfixturevalue("exported")[name])


@pytest.mark.parametrize("name", NAMES)
def test_artefact_describes_itself(name: str, folder: Path, run: Path) -> None:
    info = read_artefact(folder)
    assert info.spec == read_bundle(run).spec
    assert info.precision == ("float16" if name in HALF else "float32")
    assert info.size == sum((folder / file).stat().st_size for file in info.files)
    golden, own = artefact_reports(info)
    assert golden.passed and golden.source == "golden" and not golden.inexact_inputs
    # Those of the run that it was not trained on; 180 pictures in all.
    assert own.passed and own.source == "data" and 30 < own.pictures < 90
    assert own.macro_f1 is not None and own.top1 is not None
    assert [speed.batch for speed in info.speed] == [1, 8]
    assert all(speed.p50_ms > 0 and speed.ratio > 0 for speed in info.speed)
    assert info.machine["processor"] and info.made_with["taxon"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 9])
def test_any_batch(name: str, batch: int, folder: Path, run: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    expected = load_predictor(run, backend="torch").run(images)
    actual = load_predictor(folder).run(images)
    tolerance = 1e-5 if name in EXACT else 5e-3
    np.testing.assert_allclose(actual.probabilities, expected.probabilities, atol=tolerance)
    assert actual.scope is not None and actual.scope.shape == (batch,)


@pytest.mark.parametrize("name", NAMES)
def test_file_itself_carries_the_spec(name: str, folder: Path, run: Path) -> None:
    backend = open_artefact(folder, read_artefact(folder))
    carried = backend.spec()  # type: ignore[attr-defined]
    assert isinstance(carried, ModelSpec) and carried == read_bundle(run).spec


@pytest.mark.slow
def test_openvino_in_eight_bits(run: Path, tmp_path: Path) -> None:
    (info,) = api.export(run, "openvino-int8", out=tmp_path, max_drop=0.5)
    found = info.details["quantisation"]
    assert 0 <= found["kept_in_float"] < found["layers"] and found["chosen"]["passed"]
    assert all(report.passed for report in artefact_reports(info))
    assert load_predictor(tmp_path / "openvino-int8").spec == read_bundle(run).spec


@pytest.mark.slow
def test_executorch_of_a_network_whose_batch_it_fixes(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    bundle = write_random_model("yolo11n-cls", tmp_path / "model", size=64)
    unused: Any = None
    written = export_executorch(ExportJob(bundle, unused, ExportOptions(), print, unused), tmp_path)
    assert written.adapter.startswith("N is 1:")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    expected = load_predictor(bundle.path, backend="torch").run(images)
    actual = ExecuTorchBackend(tmp_path / written.file).run(images)
    np.testing.assert_allclose(actual.probabilities, expected.probabilities, atol=1e-5)


@pytest.mark.usefixtures("quickly_exported")
def test_an_artefact_that_does_not_run_is_one_line_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(backend: OnnxRuntimeBackend, images: ImageBatch) -> Outputs:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(OnnxRuntimeBackend, "run", fail)
    with pytest.raises(TaxonError, match=r"^onnx was written and does not run here: .*no kernel$"):
        api.export(run, "onnx", out=tmp_path)
    assert not any(tmp_path.iterdir())


def test_half_precision_takes_half_the_space(exported: dict[str, Path], run: Path) -> None:
    whole = (run / "artefacts/onnx/model.onnx").stat().st_size
    model = onnx.load(exported["onnx-fp16"] / "model.onnx")
    assert (exported["onnx-fp16"] / "model.onnx").stat().st_size < 0.7 * whole
    types = {output.type.tensor_type.elem_type for output in model.graph.output}
    assert types == {onnx.TensorProto.FLOAT}  # what goes out stays as it is
    large = [entry for entry in model.graph.initializer if np.prod(entry.dims) > 1000]
    halved = [entry for entry in large if entry.data_type == onnx.TensorProto.FLOAT16]
    assert len(halved) >= len(large) - 1  # all but the bank of the out-of-scope score


def test_command_line_exports_verifies_and_predicts(
    exported: dict[str, Path], run: Path, defects: Path
) -> None:
    folder = exported["openvino"]
    done = taxon("verify", run, folder, "--data", defects)
    assert done.returncode == 0 and "openvino and pytorch are equal on 180 pictures" in done.stdout
    picture = next((defects / "crack").iterdir())
    rows = [
        json.loads(taxon("predict", each, picture, "--format", "jsonl").stdout)
        for each in (run, folder)
    ]
    assert rows[0]["label"] == rows[1]["label"]
    assert rows[0]["confidence"] == pytest.approx(rows[1]["confidence"], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_refused_by_name(name: str, folder: Path, copy_of: Copy) -> None:
    folder = copy_of(folder)
    info = read_artefact(folder)
    file = folder / sorted(info.files)[-1]  # of two the one with the structure
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(BundleError, match=f"{file.name} does not have the sha256"):
        load_predictor(folder)
    # As if the exporter itself had left a torn file: the runtime's own error becomes one line.
    _seal(folder, info)
    with pytest.raises(BundleError, match="cannot be loaded by"):
        load_predictor(folder)


def _seal(folder: Path, info: ArtefactInfo) -> None:
    from taxon.bundle.artefact import hash_files

    sealed = info.model_copy(update={"files": hash_files(folder, info.file)})
    (folder / "artefact.json").write_text(sealed.model_dump_json())


def test_artefact_of_another_model_is_refused(
    exported: dict[str, Path], surfaces_run: Path
) -> None:
    with pytest.raises(CheckFailed, match="exported from another model"):
        api.verify(surfaces_run, exported["openvino"])


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"format_version": 99}, "format version 99, this taxon reads up to"),
        ({"format_version": 1}, "older taxon .*export again"),
        ({"format": "walnut"}, "walnut artefact, which cannot be run here"),
        ({"spec": None}, "damaged: spec"),
    ],
)
def test_artefact_json_is_checked(
    change: dict[str, object], saying: str, exported: dict[str, Path], copy_of: Copy
) -> None:
    folder = copy_of(exported["openvino"])
    content = json.loads((folder / "artefact.json").read_text())
    (folder / "artefact.json").write_text(json.dumps(content | change))
    with pytest.raises(BundleError, match=saying):
        load_predictor(folder)


def test_file_in_the_folder_may_be_named(exported: dict[str, Path], run: Path) -> None:
    (report,) = api.verify(run, exported["torch-export"] / "model.pt2")
    assert report.passed and report.artefact == "torch-export"
    assert load_predictor(exported["openvino"] / "model").spec == read_bundle(run).spec


def test_missing_file_of_several_is_named(exported: dict[str, Path], copy_of: Copy) -> None:
    folder = copy_of(exported["openvino"])
    (folder / "model" / "model.bin").unlink()
    with pytest.raises(BundleError, match=r"model\.bin is missing"):
        load_predictor(folder)


def test_bundle_with_another_hash_is_not_exported(run: Path, copy_of: Copy, tmp_path: Path) -> None:
    copy = copy_of(run)
    weights = copy / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    out = tmp_path / "out"
    fails(2, "export", copy, "--to", "torch-export", "--out", out, saying="head.safetensors")
    assert not out.exists()


def test_output_that_cannot_be_written_leaves_nothing(run: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write"):
        api.export(run, "torch-export", out=blocked / "below")
    theirs = tmp_path / "out" / "torch-export"
    theirs.mkdir(parents=True)
    (theirs / "precious.txt").write_text("of somebody else")
    with pytest.raises(OutputError, match="taxon did not write it"):
        api.export(run, "torch-export", out=tmp_path / "out")
    assert [file.name for file in theirs.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "torch-export",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("openvino", "triton")),
    ],
)
def test_full_disk_is_one_line_and_leaves_nothing(name: str, run: Path, tmp_path: Path) -> None:
    done = taxon_process("export", run, "--to", name, "--out", tmp_path, largest_file=100_000)
    line = require_failure(done, 2, "cannot write")
    assert str(tmp_path / name) in line and ".tmp" not in line
    assert not list(tmp_path.iterdir())


def test_missing_package_is_one_line_with_the_command(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "installed_version", lambda package: None)
    with pytest.raises(MissingDependencyError) as caught:
        api.export(run, ["onnx", "openvino-int8"])
    assert str(caught.value) == (
        "the format openvino-int8 needs openvino and nncf, not installed here; "
        "type: pip install 'taxon-vision[openvino]'"
    )


def test_every_format_has_a_writer_and_the_command_names_it() -> None:
    from taxon.cli.export import FORMATS as NAMED

    names = [each.name for each in FORMATS]
    assert list(WRITERS) == names == NAMED.split(", ")


def test_eight_bits_need_pictures(
    run: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taxon.api import export_pictures

    monkeypatch.setattr(export_pictures, "is_unchanged", lambda record: False)
    with pytest.raises(DataError, match="name a labelled data set with --data"):
        api.export(copy_of(run), "onnx-int8")


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"formats": []}, "no format; name one or several"),
        ({"formats": ["torch-export"], "frame": (640, 480)}, "takes no whole frames"),
        ({"formats": ["onnx"], "max_drop": 2.0}, "--max-drop is a share"),
        ({"formats": ["onnx"], "frame": (0, 0)}, "from 8 to 8192 pixels a side, not 0x0"),
        ({"formats": ["triton"], "max_batch_size": 0}, "--max-batch-size is from 1 to 1024"),
    ],
)
def test_choices_are_checked(run: Path, options: dict[str, object], saying: str) -> None:
    with pytest.raises(ConfigError, match=saying):
        api.export(run, **options)  # type: ignore[arg-type]


def test_read_only_run_is_exported_elsewhere(
    run: Path, copy_of: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(run)
    report = copy / "report" / "report.html"
    before = report.read_bytes()
    api.export(copy, "torch-export", out=tmp_path / "out")
    assert report.read_bytes() == before  # nothing is written into the run


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"files": {}}, "no sha256 of model.pt2"),
        ({"file": "../model.pt2"}, "leads elsewhere"),
        ({"files": {"/etc/hostname": "0" * 64}}, "leads elsewhere"),
    ],
)
def test_hashes_cover_the_artefact_and_nothing_else(
    change: dict[str, object], saying: str, exported: dict[str, Path], copy_of: Copy
) -> None:
    folder = copy_of(exported["torch-export"])
    content = json.loads((folder / "artefact.json").read_text())
    (folder / "artefact.json").write_text(json.dumps(content | change))
    with pytest.raises(BundleError, match=saying):
        load_predictor(folder)


def test_program_that_could_run_anything_is_refused(
    exported: dict[str, Path], copy_of: Copy, tmp_path: Path
) -> None:
    folder = copy_of(exported["torch-export"])
    file, mark = folder / "model.pt2", tmp_path / "was-run"
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    (example,) = (name for name in content if "/sample_inputs/" in name)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(mark)!r}, 'w').close()",)

    stream = io.BytesIO()
    torch.save(Evil(), stream)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, stream.getvalue() if name == example else data)
    _seal(folder, read_info(folder))
    with pytest.raises(BundleError, match="no plain tensor"):
        load_predictor(folder)
    assert not mark.exists()


def test_runtime_that_is_not_installed_is_named(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'taxon-vision\[openvino\]'"):
        load_predictor(exported["openvino"])


def test_backend_of_a_model_folder_is_no_choice_of_an_artefact(exported: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="are for model folders"):
        load_predictor(exported["openvino"], backend="torch")


def test_rejected_artefact_does_not_cost_the_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taxon.inference.openvino import OpenVinoBackend

    honest = OpenVinoBackend.run

    def wrong(self: OpenVinoBackend, images: np.ndarray) -> object:
        outputs = honest(self, images)
        return SimpleNamespace(
            logits=outputs.logits,
            probabilities=outputs.probabilities[:, ::-1],
            scope=outputs.scope,
            features=outputs.features,
        )

    monkeypatch.setattr(OpenVinoBackend, "run", wrong)
    done: list[str] = []
    with pytest.raises(CheckFailed, match=r"rejected.openvino"):
        api.export(
            run,
            ["openvino", "torch-export"],
            out=tmp_path,
            each=lambda info: done.append(info.format),
        )
    assert done == ["torch-export"]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["rejected", "torch-export"]
    with pytest.raises(BundleError, match="was rejected when it was exported"):
        load_predictor(tmp_path / "rejected" / "openvino")
    monkeypatch.setattr(OpenVinoBackend, "run", honest)
    api.export(run, "openvino", out=tmp_path)
    assert not (tmp_path / "rejected").exists()


def test_whole_frames_with_the_resize_in_the_graph(
    run: Path, copy_of: Copy, defects: Path, tmp_path: Path
) -> None:
    copy = copy_of(run)
    done = taxon("export", copy, "--to", "onnx", "--frame", "72x64")
    assert done.returncode == 0, done.stderr
    folder = copy / "artefacts" / "onnx-72x64"
    info = read_artefact(folder)
    assert info.frame == (72, 64) and info.inputs["images"] == "uint8 [N, 3, 64, 72], RGB"
    test_part = artefact_reports(info)[-1]
    assert test_part.pictures == 27 and test_part.largest_difference < 5e-3
    assert test_part.macro_f1 is not None
    (golden, data) = api.verify(copy, folder, data=defects)
    assert golden.passed and data.passed and data.pictures == 180
    # A picture of another size is refused, by its size; by the file alone too, which may travel.
    picture = next((defects / "crack").iterdir())
    for path in (folder, folder / "model.onnx"):
        assert "is 64x64 pixels" in str(next(load_predictor(path).predict([picture])).error)
    assert api.verify(copy, folder / "model.onnx")[0].passed
    # The run itself answers as before.
    assert next(load_predictor(copy).predict([picture])).error is None


def test_report_shows_artefacts_also_after_the_evaluation(run: Path, copy_of: Copy) -> None:
    copy = copy_of(run)
    page = (copy / "report" / "report.html").read_text()
    section = page[page.index('id="artefacts"') :]
    assert "torch-export" not in section and '<th scope="row">onnx</th>' in section
    api.export(copy, "torch-export")
    after = (copy / "report" / "report.html").read_text()
    assert '<th scope="row">torch-export</th>' in after
    assert after.index("<!-- artefacts -->") == page.index("<!-- artefacts -->")
    shutil.rmtree(copy / "artefacts" / "torch-export")

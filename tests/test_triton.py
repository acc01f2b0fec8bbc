"""The model repository for Triton: its configuration by Triton's schema, and its answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from commands import fails
from commands import taxon as run_taxon
from google.protobuf import text_format

import taxon
from taxon.bundle import read_bundle
from taxon.bundle.artefact import read_artefact
from taxon.bundle.golden import read_golden
from taxon.core.errors import BundleError, CheckFailed, ConfigError
from taxon.core.fingerprint import sha256_file
from taxon.core.labels import LabelSpace
from taxon.exporters.job import ExportJob, ExportOptions, served_name
from taxon.exporters.triton import config_text, export_triton
from taxon.inference.triton import open_repository, read_config

NAME = "defects-model"
ONNX = Path("artefacts/onnx/model.onnx")


def _schema() -> ModuleType:
    """`ModelConfig` as Triton's client publishes it; its package would import all of a client."""
    file = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    spec = spec_from_file_location("model_config_pb2", str(file))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


model_config_pb2 = _schema()


@pytest.fixture(scope="module")
def repository(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The multi-class model."""
    out = tmp_path_factory.mktemp("exported")
    taxon.export(run, "triton", out=out, max_batch_size=12, max_delay_ms=7)
    return out / "triton"


def _config(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_repository_has_what_triton_looks_for(run: Path, repository: Path) -> None:
    files = {each.relative_to(repository).as_posix() for each in repository.rglob("*")}
    assert files == {
        "artefact.json",
        NAME,
        f"{NAME}/1",
        f"{NAME}/1/model.onnx",
        f"{NAME}/config.pbtxt",
        f"{NAME}/labels.txt",
    }
    labels = (repository / NAME / "labels.txt").read_text().splitlines()
    assert tuple(labels) == read_bundle(run).spec.label_space.names


def test_the_configuration_fits_the_published_schema(run: Path, repository: Path) -> None:
    spec = read_bundle(run).spec
    config = _config((repository / NAME / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == (NAME, "onnxruntime", 12)
    assert list(config.dynamic_batching.preferred_batch_size) == [6, 12]
    assert config.dynamic_batching.max_queue_delay_microseconds == 7000
    (group,) = config.instance_group
    assert group.count == 1 and group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert config.version_policy.latest.num_versions == 1
    assert config.parameters["taxon.fingerprint"].string_value == spec.fingerprint
    (images,) = config.input
    assert images.data_type == model_config_pb2.TYPE_UINT8 and list(images.dims) == [3, 32, 32]
    classes = len(spec.label_space.names)
    outputs = {each.name: each for each in config.output}
    assert {name: list(each.dims) for name, each in outputs.items()} == {
        "probabilities": [classes],
        "logits": [classes],
        "scope": [1],
    }
    assert outputs["probabilities"].label_filename == "labels.txt"
    assert outputs["scope"].HasField("reshape") and not outputs["scope"].reshape.shape


def test_the_onnx_inside_is_compared_and_timed(run: Path, repository: Path, defects: Path) -> None:
    info = read_artefact(repository)
    assert [report["passed"] for report in info.parity] == [True, True] and info.speed
    assert info.outputs["scope"] == "float32 [N, 1]"
    golden, data = taxon.verify(run, repository, data=defects)
    assert golden.passed and data.passed and data.pictures == 180
    session = onnxruntime.InferenceSession(repository / NAME / "1" / "model.onnx")
    pictures = read_golden(run)
    (probabilities,) = session.run(["probabilities"], {"images": pictures.images})
    np.testing.assert_allclose(probabilities, pictures.probabilities, atol=1e-5)


def test_multilabel_without_delay_and_alone(tags_run: Path, tmp_path: Path) -> None:
    taxon.export(tags_run, "triton", out=tmp_path, max_batch_size=1, max_delay_ms=0)
    (model,) = (each for each in (tmp_path / "triton").iterdir() if each.is_dir())
    config = _config((model / "config.pbtxt").read_text())
    assert config.max_batch_size == 1 and not config.HasField("dynamic_batching")


HARD = 'ein "Riss"\\Kratzer\nдве строки 裂纹'


def test_any_text_is_escaped(run: Path) -> None:
    spec = read_bundle(run).spec.model_copy(update={"name": HARD})
    text = config_text(spec, ExportOptions(instances=3))
    config = _config(text)
    assert config.parameters["taxon.name"].string_value == HARD
    assert config.name == "ein-Riss-Kratzer" and config.instance_group[0].count == 3
    # Our own few lines read the same.
    own = read_config(text)
    (named,) = (each for each in own["parameters"] if each["key"] == ["taxon.name"])
    assert named["value"] == [{"string_value": [HARD]}] and own["max_batch_size"] == [16]


def test_labels_of_any_script_keep_their_lines(run: Path, tmp_path: Path) -> None:
    """The same model, as if its six classes had other names."""
    names = tuple(sorted(['ein "Riss"', "Kratzer\\tief", "裂纹", "хорошо", "ok #1", "plain"]))
    bundle = read_bundle(run)
    spec = bundle.spec.model_copy(update={"label_space": LabelSpace.flat("multiclass", names)})
    unused: Any = None
    job = ExportJob(replace(bundle, spec=spec), unused, ExportOptions(), print, lambda: run / ONNX)
    written = export_triton(job, tmp_path)
    labels = (tmp_path / written.file / "labels.txt").read_text(encoding="utf-8")
    assert tuple(labels.splitlines()) == names
    assert open_repository(tmp_path / written.file).name == "onnxruntime"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("clothing10", "clothing10"),
        ("a b/c", "a-b-c"),
        ("my run (2)", "my-run-2"),
        (".x", "x"),
        ("Äpfel", "pfel"),
        ("..", "model"),
        ("裂纹", "model"),
    ],
)
def test_names_under_which_servers_take_models(given: str, expected: str) -> None:
    assert served_name(given) == expected


def _altered(repository: Path, folder: Path, old: str, new: str) -> Path:
    """A copy whose configuration says something else, with the hash of that."""
    copy = Path(shutil.copytree(repository, folder / "triton"))
    file = copy / NAME / "config.pbtxt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    info = json.loads((copy / "artefact.json").read_text())
    info["files"][f"{NAME}/config.pbtxt"] = sha256_file(file)
    (copy / "artefact.json").write_text(json.dumps(info))
    return copy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TYPE_UINT8", "TYPE_FP32", "names the inputs"),
        ("[ 3, 32, 32 ]", "[ 32, 32, 3 ]", "names the inputs"),
        ('"logits"', '"scores"', "names the outputs"),
        ("reshape { shape: [ ] }", "", "names the outputs"),
        (f'name: "{NAME}"', 'name: "other"', "names the model"),
        ("dynamic_batching {", "dynamic_batching", "is damaged"),
    ],
)
def test_a_configuration_that_does_not_fit_the_model(
    run: Path, repository: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        taxon.verify(run, _altered(repository, tmp_path, old, new))


def test_a_missing_file_and_another_model(
    run: Path, tags_run: Path, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckFailed, match="exported from another model"):
        taxon.verify(tags_run, repository)
    copy = _altered(repository, tmp_path, "KIND_CPU", "KIND_CPU")
    (copy / NAME / "labels.txt").unlink()
    fails(3, "verify", run, copy, saying="is missing")


@pytest.mark.parametrize("options", [{"max_batch_size": 0}, {"max_delay_ms": -1}])
def test_options_that_triton_does_not_take(
    run: Path, tmp_path: Path, options: dict[str, int]
) -> None:
    with pytest.raises(ConfigError, match=r"is from 1 to 1024|or more, not"):
        taxon.export(run, "triton", out=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_what_it_wrote(run: Path, tmp_path: Path) -> None:
    done = run_taxon("export", run, "--to", "triton", "--out", tmp_path, "--max-batch-size", "4")
    assert done.returncode == 0, done.stderr
    assert "without the server" in done.stdout
    (model,) = (each for each in (tmp_path / "triton").iterdir() if each.is_dir())
    assert _config((model / "config.pbtxt").read_text()).max_batch_size == 4

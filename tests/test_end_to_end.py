"""From a folder of pictures to an HTTP answer, with real processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

import taxon
from taxon.inference import load_predictor

TRAIN_PER_CLASS = 12
WITHOUT_TORCH = (
    "import sys\n"
    "for name in ('torch', 'timm', 'torchvision', 'sklearn', 'scipy', 'accelerate', 'onnx'):\n"
    "    sys.modules[name] = None  # importing it raises ImportError, as if it were absent\n"
    "from taxon.cli.main import run\n"
    "sys.exit(run(sys.argv[1:]))\n"
)


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """Run `taxon serve` on a free port, with no torch to be found; yield its URL."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", WITHOUT_TORCH, "serve", str(path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://[\d.:]+", line)
        assert found, line + process.stderr.read()
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()
        process.stderr.close()


def _compare_with_pytorch(path: Path, pictures: list[Path]) -> None:
    """HTTP answers, multipart and V2, against the PyTorch model on the same pictures."""
    predictor = load_predictor(path, backend="torch")
    names = predictor.spec.label_space.names
    images = np.stack([predictor.prepare(picture.read_bytes()) for picture in pictures])
    expected = predictor.run(images).probabilities
    with serving(path) as url:
        files = [("files", (picture.name, picture.read_bytes())) for picture in pictures]
        answer = httpx.post(
            f"{url}/v1/classify", files=files, params={"top": len(names)}, timeout=60
        )
        assert answer.status_code == 200
        for row, result in zip(expected, answer.json()["results"], strict=True):
            by_name = {scored["label"]: scored["probability"] for scored in result["top"]}
            np.testing.assert_allclose([by_name[name] for name in names], row, atol=1e-4)
            named = names[int(row.argmax())]
            assert result["label"] == (None if result["out_of_scope"] else named)
        tensor = {
            "name": "images",
            "shape": list(images.shape),
            "datatype": "UINT8",
            "data": images.ravel().tolist(),
        }
        name = answer.json()["model"]["name"]
        infer = httpx.post(f"{url}/v2/models/{name}/infer", json={"inputs": [tensor]}, timeout=60)
        assert infer.status_code == 200
        outputs = {output["name"]: output for output in infer.json()["outputs"]}
        received = np.reshape(outputs["probabilities"]["data"], outputs["probabilities"]["shape"])
        np.testing.assert_allclose(received, expected, atol=1e-4)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        assert "<title" in httpx.get(url).text


def test_generated_pictures_to_http(run: Path, defects: Path) -> None:
    _compare_with_pytorch(run, sorted(defects.glob("*/*-0001.jpg")))


@pytest.mark.slow
def test_real_pictures_to_http(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "clothing10"
    for folder in sorted((source / "train").iterdir()):
        target = tmp_path / "photos" / folder.name
        target.mkdir(parents=True)
        for picture in sorted(folder.iterdir())[:TRAIN_PER_CLASS]:
            shutil.copy(picture, target)
    model = taxon.train(
        tmp_path / "photos",
        out=tmp_path / "model",
        model="tf_mobilenetv3_small_100",
        weights=shared / "weights" / "tf_mobilenetv3_small_100" / "model.safetensors",
        epochs=5,
        overrides=["split.test=0"],
    )
    result = model.evaluate(source / "val", out=tmp_path / "evaluation", explain=False)
    top1 = result.metrics.top1.value
    assert result.metrics.n == 220 and top1 is not None
    assert top1 > 0.5  # chance is 0.1; the full run is in benchmarks/RESULTS.md
    (report,) = taxon.verify(model.path)
    assert report.passed
    _compare_with_pytorch(model.path, sorted((source / "val").glob("*/*.jpg"))[::40])


def test_artefact_alone_predicts_and_serves_without_torch(
    run: Path, defects: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(run / "artefacts" / "onnx" / "model.onnx", tmp_path / "alone.onnx"))
    picture = next((defects / "crack").iterdir())
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TORCH, "predict", str(alone), str(picture)),
            *("--format", "jsonl"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    expected = taxon.load(run).predict(picture)
    assert answer["label"] == expected.label
    assert answer["confidence"] == pytest.approx(expected.confidence)
    with serving(alone) as url:
        served = httpx.post(
            f"{url}/v1/classify",
            content=picture.read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        ).json()
    assert served["results"][0]["confidence"] == pytest.approx(expected.confidence)


def test_a_wrong_path_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "train", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "no such file or folder" in done.stderr


def test_training_without_torch_says_what_to_install(defects: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TORCH, "train", str(defects)),
            *("--out", str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install" in done.stderr and "Traceback" not in done.stderr


def test_altered_artefact_is_not_served(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "artefacts" / "onnx" / "model.onnx").write_bytes(b"something else")
    done = subprocess.run(
        [sys.executable, "-m", "taxon", "serve", str(copy), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2 and "does not have the sha256" in done.stderr

"""What computes a served model: chosen by measuring, by name, and held against golden pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from taxon.api.serving_models import BackendChoice, open_checked
from taxon.bundle import read_bundle
from taxon.bundle.artefact import artefact_folder, read_artefact
from taxon.bundle.golden import read_golden
from taxon.core.errors import BundleError, CheckFailed, ConfigError
from taxon.core.fingerprint import sha256_file
from taxon.core.predictions import ImageBatch
from taxon.inference import Outputs, runtime_choice
from taxon.inference.runtime_choice import CACHE, open_faster

PIXELS = 50_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / CACHE


def choose(run: Path) -> tuple[str, str]:
    folder = artefact_folder(run, "onnx")
    backend, reason = open_faster(folder, read_artefact(folder))
    return backend.name, reason


@pytest.mark.parametrize(
    ("times", "fastest"),
    [
        ({"onnxruntime": 2.0, "openvino": 1.0}, "openvino"),
        ({"onnxruntime": 1.0, "openvino": 2.0}, "onnxruntime"),
    ],
)
class TestChoice:
    def test_the_faster_one_computes(
        self,
        run: Path,
        cache: Path,
        times: dict[str, float],
        fastest: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        measured: list[set[str]] = []

        def measure(opened: dict[str, object], info: object) -> dict[str, float]:
            measured.append(set(opened))
            return times

        monkeypatch.setattr(runtime_choice, "_measure", measure)
        name, reason = choose(run)
        assert name == fastest and reason.startswith(f"{fastest}, measured here")
        assert measured == [{"onnxruntime", "openvino"}]
        assert choose(run) == (name, reason)  # out of the cache
        assert len(measured) == 1
        [kept] = cache.glob("*.json")
        kept.write_text('{"onnxruntime": "fast"}')
        assert choose(run) == (name, reason)  # what cannot be used is measured again
        assert len(measured) == 2

    def test_whichever_it_is_must_give_the_golden_outputs(
        self, run: Path, times: dict[str, float], fastest: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runtime_choice, "_measure", lambda opened, info: times)
        golden = read_golden(run)
        predictor = open_checked(run, BackendChoice(), PIXELS)
        assert predictor.backend.name == fastest
        outputs = predictor.run(golden.images)
        assert np.abs(outputs.probabilities - golden.probabilities).max() < 1e-4


def test_measured_for_real(run: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "taxon.serving"):
        predictor = open_checked(run, BackendChoice(), PIXELS)
    [kept] = cache.glob("*.json")
    times = json.loads(kept.read_text())
    assert set(times) == {"onnxruntime", "openvino"} and min(times.values()) > 0
    assert predictor.backend.name == min(times, key=times.__getitem__)
    assert "is computed by" in caplog.text


def warnings_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a module's logger is told, whatever a library made of logging in this process."""
    warned: list[str] = []
    monkeypatch.setattr(module._log, "warning", lambda text, *given: warned.append(text % given))
    return warned


def test_a_runtime_that_fails_is_no_choice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, threads: int | None) -> None:
        raise BundleError("cannot be loaded by OpenVINO")

    monkeypatch.setattr(runtime_choice, "_openvino", fail)
    warned = warnings_of(runtime_choice, monkeypatch)
    name, _ = choose(run)
    assert name == "onnxruntime" and "cannot be loaded by OpenVINO" in warned[0]


class Wrong:
    """A runtime that computes something else, or nothing."""

    name = "openvino"

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def run(self, images: ImageBatch) -> Outputs:
        if self._error is not None:
            raise self._error
        rows = np.tile(np.float32([0.9, 0.05, 0.05]), (len(images), 1))
        return Outputs(np.log(rows), rows)


@pytest.mark.parametrize(
    ("error", "words"),
    [(None, "openvino is no choice"), (RuntimeError("no such kernel"), "no such kernel")],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_runtime_that_does_not_compute_the_model_is_no_choice(
    run: Path,
    known: bool,
    error: Exception | None,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if known:  # it was the faster one before an update of the system, say
        monkeypatch.setattr(
            runtime_choice, "_measure", lambda *_: {"onnxruntime": 2.0, "openvino": 1.0}
        )
        assert choose(run)[0] == "openvino"
    monkeypatch.setattr(runtime_choice, "_openvino", lambda *_: Wrong(error))
    warned = warnings_of(runtime_choice, monkeypatch)
    predictor = open_checked(run, BackendChoice(), PIXELS)
    assert predictor.backend.name == "onnxruntime"
    assert words in " ".join(warned)


def test_a_cache_that_cannot_be_written_stops_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAXON_CACHE", str(tmp_path / "file" / "cache"))
    assert choose(run)[0] in ("onnxruntime", "openvino")


def test_pytorch_by_name(run: Path) -> None:
    golden = read_golden(run)
    predictor = open_checked(run, BackendChoice("torch"), PIXELS)
    assert predictor.backend.name.startswith("pytorch")
    assert np.abs(predictor.run(golden.images).probabilities - golden.probabilities).max() < 1e-4


class TestRefused:
    def test_an_artefact_that_is_not_there(self, run: Path) -> None:
        with pytest.raises(BundleError, match=r"no artefact 'onnx-int8' \(it has: onnx\)"):
            open_checked(run, BackendChoice("onnx-int8"), PIXELS)

    def test_another_backend_for_an_artefact_alone(self, run: Path) -> None:
        with pytest.raises(ConfigError, match="is for model folders"):
            open_checked(artefact_folder(run, "onnx"), BackendChoice("torch"), PIXELS)

    def test_a_device_without_pytorch(self) -> None:
        with pytest.raises(ConfigError, match="--backend torch --device cuda"):
            BackendChoice(device="cuda")

    def test_golden_mismatch(self, run: Path, copy_of: Callable[[Path], Path]) -> None:
        other = copy_of(run)
        expected = dict(np.load(other / "golden" / "expected.npz"))
        expected["probabilities"] = expected["probabilities"][:, ::-1]
        np.savez_compressed(other / "golden" / "expected.npz", **expected)
        # The hash in bundle.json would tell; here the file and its hash agree.

        bundle = json.loads((other / "bundle.json").read_text())
        artefact = artefact_folder(other, "onnx") / "artefact.json"
        before = read_artefact(artefact.parent).spec.fingerprint
        bundle["files"]["golden/expected.npz"] = sha256_file(other / "golden" / "expected.npz")
        (other / "bundle.json").write_text(json.dumps(bundle))

        after = read_bundle(other).spec.fingerprint
        artefact.write_text(artefact.read_text().replace(before, after))
        with pytest.raises(CheckFailed, match="refused to serve"):
            open_checked(other, BackendChoice("onnx"), PIXELS)

"""Latencies of the zoo: measured once, kept, and chosen by. No time is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import fails, taxon

from taxon import train
from taxon.api.latency import measure_backbone, measured_rows, with_budget
from taxon.api.settings import training_settings
from taxon.benchmarking import latency as module
from taxon.benchmarking.latency import (
    Device,
    Latency,
    Row,
    best_within,
    keep_latency,
    latency_of,
    read_latency,
    relevant_versions,
)
from taxon.bundle import read_bundle
from taxon.core.errors import CheckFailed, ConfigError, MissingDependencyError
from taxon.core.machine import machine
from taxon.models.zoo import ZOO, find
from taxon.training import silent

SMALL = "mobilenetv3_small_100"


def a_latency(name: str, milliseconds: float, size: int = 224, device: Device = "cpu") -> Latency:
    return Latency(
        backbone=name,
        size=size,
        device=device,
        p50_ms=milliseconds,
        p95_ms=2 * milliseconds,
        calls=10,
        machine=machine(),
        versions=relevant_versions(name, device),
    )


class Counting:
    """Measures nothing: it says what it was told, and counts how often it was asked."""

    def __init__(self, milliseconds: dict[str, float]) -> None:
        self.milliseconds = milliseconds
        self.asked: list[tuple[str, int | None]] = []

    def __call__(self, name: str, size: int | None, device: Device) -> Latency:
        self.asked.append((name, size))
        if name not in self.milliseconds:
            raise MissingDependencyError(f"{name} needs a library")
        return a_latency(name, self.milliseconds[name], size or 224, device)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TAXON_CACHE", str(folder))
    return folder / "latency"


def test_what_was_measured_is_not_measured_again() -> None:
    measure = Counting({SMALL: 4.0})
    first = latency_of(SMALL, None, "cpu", measure)
    assert latency_of(SMALL, None, "cpu", measure) == first
    assert measure.asked == [(SMALL, None)]
    # By any of its names; at another size, or on another machine, it is something else.
    entry = find(SMALL)
    assert entry is not None
    assert read_latency(entry.weights, None, "cpu") == first
    latency_of(SMALL, 96, "cpu", measure)
    assert measure.asked == [(SMALL, None), (SMALL, 96)]


def test_another_machine_and_other_versions_are_measured_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_latency(SMALL, None, a_latency(SMALL, 4.0))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(module, "machine_fingerprint", lambda: "another")
        assert read_latency(SMALL, None, "cpu") is None
    with monkeypatch.context() as later:
        later.setattr(module, "made_with", lambda *names: dict.fromkeys(names, "99"))
        assert read_latency(SMALL, None, "cpu") is None
    assert read_latency(SMALL, None, "cpu") is not None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"p50_ms": 1}'])
def test_a_damaged_file_is_measured_again_and_replaced(content: bytes, cache: Path) -> None:
    measure = Counting({SMALL: 4.0})
    latency_of(SMALL, None, "cpu", measure)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert read_latency(SMALL, None, "cpu") is None
    assert latency_of(SMALL, None, "cpu", measure).p50_ms == 4.0
    assert len(measure.asked) == 2
    assert read_latency(SMALL, None, "cpu") is not None


def test_an_interrupted_measurement_goes_on_where_it_was() -> None:
    names = ["efficientnet_b0", SMALL, "efficientnet_lite0"]

    def stopped(name: str, size: int | None, device: Device) -> Latency:
        if name == names[2]:
            raise KeyboardInterrupt
        return a_latency(name, 5.0)

    with pytest.raises(KeyboardInterrupt):
        measured_rows(names, "cpu", lambda _: None, stopped)
    measure = Counting(dict.fromkeys(names, 7.0))
    rows = measured_rows(names, "cpu", lambda _: None, measure)
    assert measure.asked == [(names[2], None)]
    assert [row.latency.p50_ms for row in rows if row.latency] == [5.0, 5.0, 7.0]


def test_what_cannot_be_measured_says_why_and_others_go_on() -> None:
    said: list[str] = []
    rows = measured_rows(["yolo11n-cls", SMALL], "cpu", said.append, Counting({SMALL: 3.0}))
    assert rows[0].latency is None
    assert rows[0].reason == "yolo11n-cls needs a library"
    assert rows[1].latency is not None
    assert "2 backbones" in said[0]
    assert any("yolo11n-cls is not measured" in line for line in said)
    measure = Counting({SMALL: 3.0})
    with pytest.raises(ConfigError, match="unknown backbone 'mobilenetv3_smal'"):
        measured_rows([SMALL, "mobilenetv3_smal"], "cpu", silent, measure)


def test_nothing_named_is_the_whole_zoo() -> None:
    measure = Counting({entry.name: 1.0 for entry in ZOO})
    rows = measured_rows([], "cpu", lambda _: None, measure)
    assert [row.name for row in rows] == [entry.name for entry in ZOO]


def test_a_real_measurement() -> None:
    found = measure_backbone("test_efficientnet", 32, "cpu")
    assert (found.backbone, found.size, found.device) == ("test_efficientnet", 32, "cpu")
    assert 0 < found.p50_ms <= found.p95_ms
    assert found.calls >= 3
    assert 0 <= found.busy <= 1
    assert found.versions["onnxruntime"] and found.machine == machine()


def _rows(milliseconds: dict[str, float]) -> list[Row]:
    return [Row(name, find(name), a_latency(name, value)) for name, value in milliseconds.items()]


def test_the_most_accurate_within_the_budget_is_chosen() -> None:
    rows = _rows({SMALL: 2, "efficientnet_b0": 9, "convnext_tiny": 60, "yolo11x-cls": 3})
    assert best_within(10, rows).name == "efficientnet_b0"
    assert best_within(9, rows).name == "efficientnet_b0"
    assert best_within(8.9, rows).name == SMALL
    assert best_within(100, rows).name == "convnext_tiny"
    with pytest.raises(CheckFailed, match=f"within 1 ms here .the fastest is {SMALL} with 2.0 ms"):
        best_within(1, rows)
    with pytest.raises(CheckFailed, match="nothing was measured"):
        best_within(10, _rows({"yolo11n-cls": 1, "test_efficientnet": 1}))


def test_models_shows_what_was_measured_and_chooses() -> None:
    keep_latency(SMALL, None, a_latency(SMALL, 4.321))
    keep_latency("efficientnet_b0", None, a_latency("efficientnet_b0", 9.876))
    listing = taxon("models", SMALL, "convnext_tiny").stdout.splitlines()
    assert listing[1].split()[-2:] == ["4.3", "apache-2.0"]
    assert listing[2].split()[-2:] == ["-", "apache-2.0"]

    done = taxon("models", SMALL, "efficientnet_b0", "--measure", "--budget-ms", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == [SMALL, "67.66", "224", "4.3", "8.6", "yes"]
    assert lines[2].split() == ["efficientnet_b0", "77.69", "224", "9.9", "19.8"]
    assert f"Best published top-1 within 5 ms: {SMALL} (67.66 %)." in done.stdout
    assert done.stderr == ""  # nothing was measured

    assert "Other programs" not in done.stdout
    busy = a_latency("efficientnet_b0", 9.876).model_copy(update={"busy": 0.4})
    keep_latency("efficientnet_b0", None, busy)
    again = taxon("models", SMALL, "efficientnet_b0", "--measure").stdout
    assert "while efficientnet_b0 was measured: the figures may be too high" in again

    none = taxon("models", SMALL, "efficientnet_b0", "--budget-ms", "1")
    assert none.returncode == 3
    assert none.stderr.startswith("error: no backbone answers within 1 ms here")
    assert SMALL in none.stdout


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["--budget-ms", "0"], "--budget-ms is more than 0"),
        (["--device", "tpu"], "--device is cpu or cuda, not 'tpu'"),
        (["resnet50"], "nothing is published of 'resnet50'"),
        (["--measure", "resnet5000"], "unknown backbone 'resnet5000'"),
    ],
)
def test_wrong_requests(arguments: list[str], saying: str) -> None:
    fails(2, "models", *arguments, saying=saying)


@pytest.mark.usefixtures("without_export")
def test_train_takes_the_best_within_the_budget(few: Path, tmp_path: Path) -> None:
    for entry in ZOO:
        keep_latency(entry.name, 32, a_latency(entry.name, 4.0 if entry.name == SMALL else 90, 32))
    shape = ["preprocessing.size=32"]
    out = tmp_path / "model"
    train(few, out=out, weights="none", budget_ms=5, epochs=1, overrides=shape, device="cpu")
    info = read_bundle(out).info
    assert info.backbone.startswith(SMALL)
    assert info.provenance.config["model"] == SMALL
    (note,) = [note for note in info.provenance.notes if note.startswith("backbone: ")]
    assert "the best published top-1 within 5 ms: 4.0 ms here" in note
    with pytest.raises(CheckFailed, match="within 1 ms"):
        train(few, out=tmp_path / "no", weights="none", budget_ms=1, overrides=shape)
    assert not (tmp_path / "no").exists()


def test_only_what_may_be_taken_is_measured() -> None:
    measure = Counting({entry.name: entry.multiply_adds for entry in ZOO})
    settings = training_settings()
    assert settings.preprocessing.size == "auto"
    chosen, reason = with_budget(settings, 6.5, silent, measure)
    assert chosen.model == "convnext_tiny"
    asked = [name for name, _ in measure.asked]
    assert asked == ["vit_base_patch16_224", "efficientnet_b7", "convnext_tiny"]
    # `auto` could take a larger input, which was not what was measured.
    assert chosen.preprocessing.size is None
    assert "224 px" in reason
    assert with_budget(settings, None, silent, measure) == (settings, "")


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--model", SMALL], f"'{SMALL}' is named already"),
        (["--set", f"model={SMALL}"], f"'{SMALL}' is named already"),
        (["--weights", "some.safetensors"], "belong to one backbone"),
        (["--show-config"], "--show-config begins none"),
    ],
)
def test_a_budget_needs_a_free_choice(options: list[str], saying: str, few: Path) -> None:
    fails(2, "train", few, "--budget-ms", "5", *options, saying=saying)


def test_a_budget_is_more_than_nothing(few: Path) -> None:
    fails(2, "train", few, "--budget-ms", "0", saying="--budget-ms is more than 0")

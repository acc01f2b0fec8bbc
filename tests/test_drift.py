"""Drift: the reference in a model folder, the index, and what the server says of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from serving_apps import GREEN, RED, encoded, files, make_predictor, table_of

from taxon.bundle.layout import REFERENCE_FILE
from taxon.bundle.reference import Reference, histogram, read_reference
from taxon.core.errors import BundleError
from taxon.inference import load_predictor
from taxon.preprocessing.statistics import NAMES, picture_statistics
from taxon.serving import create_app
from taxon.serving.models.drift import LEAST, DriftMonitor
from taxon.serving.models.stability import population_stability_index

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


class TestIndex:
    def test_by_hand(self) -> None:
        found = population_stability_index([99.5, 99.5], [49.5, 149.5])
        expected = 0.25 * math.log(2) + 0.25 * math.log(1.5)
        assert found == pytest.approx(expected)

    @given(counts, st.randoms())
    def test_is_no_distance_from_itself_and_the_same_both_ways(
        self, expected: list[int], random: object
    ) -> None:
        found = list(expected)
        random.shuffle(found)  # type: ignore[attr-defined]
        assert population_stability_index(expected, expected) == 0
        index = population_stability_index(expected, found)
        assert index >= 0
        assert index == pytest.approx(population_stability_index(found, expected))

    @pytest.mark.parametrize(("expected", "found"), [([], []), ([1], [1, 2])])
    def test_other_bins(self, expected: list[int], found: list[int]) -> None:
        with pytest.raises(ValueError, match="bins"):
            population_stability_index(expected, found)


class TestHistogram:
    @given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
    def test_every_value_is_counted_where_it_is_looked_up(self, values: list[float]) -> None:
        made = histogram(values)
        assert sum(made.counts) == len(values)
        again = [0] * len(made.counts)
        for value in values:
            again[made.bin_of(value)] += 1
        assert tuple(again) == made.counts

    def test_bins_hold_a_tenth_each(self) -> None:
        assert histogram(np.linspace(0, 1, 1000).tolist()).counts == (100,) * 10


class TestStatistics:
    def test_ranges(self) -> None:
        random = np.random.default_rng(0)
        noise = random.integers(0, 256, (3, 33, 47), dtype=np.uint8)
        flat = np.full((3, 33, 47), 51, np.uint8)
        red = np.zeros((3, 33, 47), np.uint8)
        red[0] = 255
        assert dict(zip(NAMES, picture_statistics(flat), strict=True)) == pytest.approx(
            {"brightness": 0.2, "contrast": 0, "saturation": 0, "sharpness": 0}, abs=1e-6
        )
        assert picture_statistics(red)[NAMES.index("saturation")] == 1
        assert (picture_statistics(noise) > 0).all() and (picture_statistics(noise) < 1).all()
        blurred = noise // 2 + 64
        assert picture_statistics(blurred)[3] < picture_statistics(noise)[3]


def reference_of_red() -> Reference:
    """As if the model had been calibrated on noisy red pictures."""
    random = np.random.default_rng(0)
    return Reference(
        part="calibration",
        pictures=100,
        classes={"blue": 0, "green": 0, "red": 100},
        confidence=histogram(random.uniform(0.9, 1, 100).tolist()),
        pixels={name: histogram(random.uniform(0, 1, 100).tolist()) for name in NAMES},
    )


def test_window_slides() -> None:
    predictor = make_predictor()
    monitor = DriftMonitor(reference_of_red(), window=LEAST)
    red, green = (
        predictor.decide("p", np.array(row, np.float32))
        for row in ([0.02, 0.01, 0.97], [0.02, 0.97, 0.01])
    )
    for _ in range(LEAST - 1):
        monitor.add(red, [0.5] * 4)
    assert monitor.report().index == {}  # too few
    monitor.add(red, [0.5] * 4)
    assert monitor.report().index["classes"] < 0.1
    for _ in range(LEAST // 2):
        monitor.add(green, [0.5] * 4)
    assert monitor.report().index["classes"] > 0.25
    for _ in range(LEAST):
        monitor.add(red, [0.5] * 4)
    report = monitor.report()
    assert report.pictures == LEAST and report.index["classes"] < 0.1


def test_server_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxon.serving.models.drift.LEAST", 4)
    app = create_app(table_of(make_predictor(), reference=reference_of_red()))
    with TestClient(app) as client:
        assert client.get("/v1/model").json()["watches_drift"] is True
        for picture in (RED, GREEN):
            client.post("/v1/classify", files=files(*[("p", picture)] * 4))
        request = {"inputs": [encoded(RED, GREEN)]}
        client.post("/v2/models/colours/infer", json=request)
        drift = client.get("/v1/drift").json()["drift"]
        assert drift["pictures"] == 10 and drift["part"] == "calibration"
        assert set(drift["index"]) == {"classes", "confidence", *NAMES}
        assert drift["index"]["classes"] > 0.25
        text = client.get("/metrics").text
    assert 'taxon_drift_index{model="colours",of="classes",version="1"}' in text


def test_trained_model_has_its_reference(run: Path, tmp_path: Path) -> None:
    reference = read_reference(run)
    assert reference is not None
    predictor = load_predictor(run)
    assert list(reference.classes) == list(predictor.spec.label_space.names)
    assert sum(reference.classes.values()) <= reference.pictures
    assert sum(reference.confidence.counts) == reference.pictures
    for name in NAMES:
        assert sum(reference.pixels[name].counts) == reference.pictures
    damaged = json.loads((run / REFERENCE_FILE).read_text())
    del damaged["classes"]
    (tmp_path / REFERENCE_FILE).write_text(json.dumps(damaged))
    with pytest.raises(BundleError, match="classes"):
        read_reference(tmp_path)
    (tmp_path / REFERENCE_FILE).unlink()
    assert read_reference(tmp_path) is None

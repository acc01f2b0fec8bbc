"""The learning curve of a probe: what it measures, what it expects, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import taxon.training.learning_curve as module
from taxon.training.learning_curve import CurvePoint, LearningCurve, learning_curve
from taxon.training.power_law import PowerLaw, fit_power_laws

Set = tuple[np.ndarray, np.ndarray, np.ndarray]


def _classes(seed: int, count: int, classes: int = 4, distance: float = 1.0, size: int = 16) -> Set:
    """Gaussian classes in equal numbers; each picture its own group."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, size)) * distance
    features = centres[targets] + rng.normal(size=(count, size)) * 2
    return features.astype(np.float32), targets, np.arange(count)


def _curve(data: Set, seed: int = 0) -> LearningCurve:
    task = "multilabel" if data[1].ndim == 2 else "multiclass"
    curve = learning_curve(*data, task=task, seed=seed)
    assert curve is not None
    return curve


def _only(data: Set, rows: np.ndarray) -> Set:
    features, targets, groups = data
    return features[rows], targets[rows], groups[rows]


def test_curve_rises_and_half_of_the_pictures_foretell_all() -> None:
    covered, widths, gains = 0, [], []
    for seed in range(6):
        data = _classes(seed, 320)
        everything, half = _curve(data), _curve(_only(data, np.arange(160)))
        scores = [point.score for point in everything.points]
        assert scores[0] < scores[-1] and everything.points[-1].pictures == 256
        score, low, high = half.expected(2 * half.points[-1].pictures)
        covered += low <= scores[-1] <= high
        widths.append(high - low)
        gains.append(score - half.points[-1].score)
    assert covered >= 4
    # Not by being vague, nor by repeating what half of the pictures scored.
    assert np.median(widths) < 0.2 and np.mean(gains) > 0.01


def test_the_same_seed_gives_the_same_curve_and_another_seed_another() -> None:
    data = _classes(0, 120)
    curve = _curve(data)
    assert curve == _curve(data) and curve.resampled == _curve(data).resampled
    assert curve.points != _curve(data, seed=1).points


def test_no_share_learns_from_the_group_that_it_is_scored_on() -> None:
    # Each group has a signature of its own and a label by chance: only a leak could tell it.
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 6)
    targets = rng.permutation(np.arange(40) % 2)[groups]
    features = (rng.normal(size=(40, 64)) * 5)[groups] + rng.normal(size=(240, 64)) * 0.01
    honest = _curve((features.astype(np.float32), targets, groups))
    assert max(point.score for point in honest.points) < 0.7
    leaking = _curve((features.astype(np.float32), targets, np.arange(240)))
    assert leaking.points[-1].score > 0.9


@pytest.mark.parametrize("several", [False, True])
def test_shares_are_nested_whole_groups_with_their_share_of_every_class(
    several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, 360)
    kinds = rng.choice(3, p=[0.6, 0.3, 0.1], size=120)[groups]
    targets = np.eye(3, dtype=np.int64)[kinds] if several else kinds
    features = rng.normal(size=(360, 4)).astype(np.float32)
    taught: list[np.ndarray] = []
    original = module.fit_predict

    def spy(features, targets, train, held_out, classes):  # type: ignore[no-untyped-def]
        assert not set(groups[train]) & set(groups[held_out])
        taught.append(train)
        return original(features, targets, train, held_out, classes)

    monkeypatch.setattr(module, "fit_predict", spy)
    _curve((features, targets, groups))
    folds = [taught[start : start + module.SHARES] for start in range(0, len(taught), 4)]
    assert len(folds) == 5 * module.REPEATS
    for shares in folds:
        whole = np.bincount(kinds[shares[-1]], minlength=3) / len(shares[-1])
        for smaller, larger in pairwise(shares):
            assert set(smaller) < set(larger)
            others = np.setdiff1d(larger, smaller)
            assert not set(groups[smaller]) & set(groups[others])
            own = np.bincount(kinds[smaller], minlength=3) / len(smaller)
            np.testing.assert_allclose(own, whole, atol=0.1)
            assert own.min() > 0


def _labels(seed: int, count: int) -> Set:
    """Two labels that their own features tell."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (count, 2))
    features = np.repeat(targets, 4, axis=1) * 2 + rng.normal(size=(count, 8))
    return features.astype(np.float32), targets, np.arange(count)


def test_unknown_labels_neither_teach_nor_count() -> None:
    features, truth, groups = _labels(0, 240)
    # Two thirds of the positives of the second label are unknown.
    hidden = (truth[:, 1] == 1) & (np.arange(240) % 3 > 0)
    unknown, absent = truth.copy(), truth.copy()
    unknown[hidden, 1], absent[hidden, 1] = -1, 0
    curve = _curve((features, unknown, groups))
    assert curve.task == "multilabel" and curve.sentence().startswith("mAP of a probe: ")
    assert curve.points[-1].score > 0.9
    assert _curve((features, absent, groups)).points[-1].score < 0.8


def test_there_is_no_curve_where_there_is_too_little() -> None:
    data = _classes(0, 60)
    assert _curve(data).available == 60
    features, targets, groups = data
    for poor in (
        _only(data, np.arange(59)),
        (features, targets, np.zeros(60, np.int64)),
        (features, np.ones(60, np.int64), groups),
        # Four groups: a fold's three cannot be divided into shares.
        (features, targets % 2, targets),
    ):
        assert learning_curve(*poor, task="multiclass", seed=0) is None
    labels = np.stack([np.where(groups < 30, 1, -1), np.zeros(60, np.int64)], axis=1)
    assert learning_curve(features, labels, groups, task="multilabel", seed=0) is None
    labels[40:, 0] = 0
    assert learning_curve(features, labels, groups, task="multilabel", seed=0) is not None


def test_of_many_pictures_a_sample_of_whole_groups_takes_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PICTURES", 400)
    features, targets, _ = _classes(0, 1200)
    groups = np.arange(1200) // 4 % 100  # twelve pictures each, of all classes
    curve = _curve((features, targets, groups))
    assert curve.available == 1200 and 308 <= curve.points[-1].pictures <= 336
    assert f"{4 * curve.points[-1].pictures:,} would give about" in curve.sentence()
    two = groups % 2
    assert learning_curve(features, targets, two, task="multiclass", seed=0) is None


def _told(law: PowerLaw, resampled: tuple[PowerLaw, ...], available: int = 500) -> LearningCurve:
    points = tuple(
        CurvePoint(pictures, 1 - law.error(pictures), 0.01) for pictures in (50, 100, 200, 400)
    )
    return LearningCurve("multiclass", available, 10, points, law, resampled)


RISING = PowerLaw(0.05, 2.0, 0.4)
FLAT = PowerLaw(0.2, 0.0, 0.5)


def test_expectation_and_its_reach() -> None:
    curve = _told(RISING, (RISING, PowerLaw(0.0, 2.0, 0.4), PowerLaw(0.1, 2.0, 0.4)))
    score, low, high = curve.expected(1600)
    assert score == pytest.approx(1 - 0.05 - 2 * 1600**-0.4)
    assert low == pytest.approx(score - 0.05, abs=0.003)
    assert high == pytest.approx(score + 0.05, abs=0.003)
    assert curve.expected(12.5)[0] == pytest.approx(1 - 0.05 - 2 * 12.5**-0.4)
    for beyond in (1601, 12):
        with pytest.raises(ValueError, match="measured with 50 to 400 and tells of 12 to 1,600"):
            curve.expected(beyond)


def test_sentence_of_a_rising_curve() -> None:
    curve = _told(RISING, (RISING, RISING))
    measured = "top-1 of a probe: 63 % with 100 pictures, 71 % with 200, 77 % with 400"
    ahead = "would give about 82 % (82 to 82 %)"
    assert curve.sentence() == f"{measured} (40 a class); twice as many as now (1,000) {ahead}"
    uneven = replace(curve, even_classes=None)
    assert uneven.sentence() == f"{measured}; twice as many as now (1,000) {ahead}"
    assert "; 1,600 would give about 85 %" in replace(curve, available=801).sentence()


def test_sentence_of_a_flat_curve_and_of_one_that_cannot_be_told() -> None:
    flat = "more pictures of the same kind would hardly help: twice as many as now (1,000) would"
    assert f"{flat} give about 80 % (80 to 80 %)" in _told(FLAT, (FLAT, FLAT)).sentence()
    unclear = "cannot be told from these: twice as many as now (1,000) might give"
    # Flat itself, though many resamples rise; rising, though by nobody knows how much.
    assert f"{unclear} 80 to 82 %" in _told(FLAT, (FLAT, RISING)).sentence()
    assert f"{unclear} 63 to 82 %" in _told(RISING, (RISING, PowerLaw(0.25, 2.0, 0.4))).sentence()


def test_sentences_of_real_curves() -> None:
    assert "would hardly help" in _curve(_classes(0, 240, distance=4.0)).sentence()
    assert "cannot be told" in _curve(_classes(0, 60, classes=2, distance=0.1)).sentence()
    rising = _curve(_classes(0, 800, classes=10, size=32)).sentence()
    assert "(64 a class); twice as many as now (1,600) would give about" in rising
    sampled = replace(_curve(_classes(0, 240)), available=100_000)
    assert "out of its reach" in sampled.sentence()
    features, targets, groups = _classes(0, 240)
    uneven = np.flatnonzero((targets > 0) | (groups < 120))
    assert "a class" not in _curve(_only((features, targets, groups), uneven)).sentence()


def test_power_laws_are_found_again_and_stay_within_their_bounds() -> None:
    pictures, weights = np.array([50.0, 100.0, 200.0, 400.0]), np.array([1.0, 2.0, 3.0, 4.0])
    laws = [RISING, FLAT, PowerLaw(0.0, 1.5, 0.3)]
    rows = [[law.error(n) for n in pictures] for law in laws]
    rising_errors, steep = [0.2, 0.3, 0.4, 0.5], [0.9, 0.3, 0.05, 0.0]
    *found, worse, best = fit_power_laws(pictures, np.array([*rows, rising_errors, steep]), weights)
    for law, again in zip(laws, found, strict=True):
        for n in (25, 400, 1600):
            assert again.error(n) == pytest.approx(law.error(n), abs=1e-6)
    assert worse.factor == 0 and worse.floor == pytest.approx(
        np.average(rising_errors, weights=weights)
    )
    assert best.floor == 0 and best.factor > 0 and 0 < best.exponent <= 1

"""Counts at thresholds: what curves and the threshold explorer are drawn of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from test_evaluation import multilabel

from taxon.core.labels import UNKNOWN
from taxon.evaluation.curves import class_curves, threshold_curve


class TestThresholdCurve:
    @given(st.integers(0, 10**6), st.integers(2, 400), st.sampled_from([3, 50, 10**6]))
    def test_counts_hold_at_the_thresholds_as_they_are_written(
        self, seed: int, n: int, levels: int
    ) -> None:
        random = np.random.default_rng(seed)
        truth = random.random(n) < 0.4
        scores = (random.integers(0, levels, n) / levels).astype(np.float32)
        fitted = float(random.random())
        curve = threshold_curve(truth, scores, fitted, points=20)
        if truth.all() or not truth.any():
            assert curve is None
            return
        assert curve is not None
        assert (np.diff(curve.thresholds) < 0).all()
        for threshold, hits, false in zip(
            curve.thresholds, curve.hits, curve.false_alarms, strict=True
        ):
            named = scores >= np.float32(threshold)
            assert (hits, false) == ((named & truth).sum(), (named & ~truth).sum())
        if curve.fitted is not None:
            assert curve.thresholds[curve.fitted] == fitted
        else:
            assert not (scores >= np.float32(fitted)).any()
        assert curve.hits[-1] == truth.sum() and len(curve.hits) <= 20 + 2

    def test_whole_curve_has_scikit_learns_areas(self) -> None:
        random = np.random.default_rng(3)
        truth = random.random(150) < 0.3
        scores = (truth + random.normal(size=150)).astype(np.float32)
        curve = threshold_curve(truth, scores)
        assert curve is not None
        across, up = np.array(curve.roc()).T
        assert np.trapezoid(up, across) == pytest.approx(roc_auc_score(truth, scores))
        steps = np.array(curve.precision_recall())
        area = float((np.diff(steps[:, 0]) * steps[1:, 1]).sum())
        assert area == pytest.approx(average_precision_score(truth, scores))
        named = curve.hits + curve.false_alarms
        f1 = 2 * curve.hits / (named + curve.positives)
        assert curve.best_f1 == int(f1.argmax())

    def test_thinned_curve_keeps_the_area(self) -> None:
        random = np.random.default_rng(4)
        truth = random.random(20_000) < 0.05
        scores = (2 * truth + random.normal(size=20_000)).astype(np.float32)
        thinned = threshold_curve(truth, scores, points=60)
        assert thinned is not None and len(thinned.hits) <= 61
        across, up = np.array(thinned.roc()).T
        assert np.trapezoid(up, across) == pytest.approx(roc_auc_score(truth, scores), abs=0.005)

    def test_unknown_tags_are_left_out(self) -> None:
        case = multilabel()
        targets = case.targets.copy()
        targets[::2, 0] = UNKNOWN
        curve = class_curves(case.table, targets, case.label_space, case.policy)["tag 0"]
        assert curve.positives + curve.negatives == 50
        assert curve.positives == case.targets[1::2, 0].sum()

"""Figures beyond accuracy and F1, and intervals where no mistake was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from taxon.core.errors import ConfigError, DataError
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate
from taxon.evaluation import Metrics, compute_metrics
from taxon.evaluation.order import class_order
from taxon.metrics import (
    Figure,
    GroupBootstrap,
    adaptive_calibration_error,
    class_scores,
    cohen_kappa_quadratic,
    exact_interval,
    exact_match,
    hamming_loss,
    indicator,
    label_ranking_average_precision,
    matthews,
    named_indicator,
)
from taxon.metrics.resampled import count_samples, quadratic_kappa_samples

pytestmark = pytest.mark.filterwarnings("error")
property_test = settings(max_examples=40, deadline=None)


def answers(seed: int, n: int = 200, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Classes and predictions that agree in about two of three cases, each class at least once."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    predicted = np.where(rng.random(n) < 0.6, targets, rng.integers(0, classes, n))
    return targets, predicted


def tags(seed: int, n: int = 80, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Tags, and scores with ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, classes)) < 0.4).astype(np.int64)
    scores = np.round(0.4 * targets + 0.6 * rng.random((n, classes)), 1).astype(np.float32)
    return targets, scores


class TestOneClassAPicture:
    @given(st.integers(0, 10**6), st.permutations(range(5)))
    @property_test
    def test_equal_scikit_learn(self, seed: int, order: list[int]) -> None:
        targets, predicted = answers(seed)
        expected = sk.matthews_corrcoef(targets, predicted)
        assert matthews(targets, predicted).value == pytest.approx(expected)
        place = np.argsort(order)
        expected = sk.cohen_kappa_score(place[targets], place[predicted], weights="quadratic")
        found = cohen_kappa_quadratic(targets, predicted, order)
        assert found.value == pytest.approx(expected)

    def test_quadratic_kappa_by_hand(self) -> None:
        # Squared distances 0, 1, 4 of truth and answer: mean 5/3. Each truth against each answer:
        # (0, 1, 2) against (0, 2, 0): 0 4 0, 1 1 1, 4 0 4: mean 15/9. 1 - 1 = 0.
        figure = cohen_kappa_quadratic(np.array([0, 1, 2]), np.array([0, 2, 0]), [0, 1, 2])
        assert figure.value == pytest.approx(0)

    def test_an_absent_class_between_keeps_its_place(self) -> None:
        targets, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 0])
        expected = sk.cohen_kappa_score(targets, predicted, labels=[0, 1, 2], weights="quadratic")
        found = cohen_kappa_quadratic(targets, predicted, [0, 1, 2])
        assert found.value == pytest.approx(expected)

    def test_undefined_where_nothing_can_agree(self) -> None:
        one, both = np.zeros(4, np.int64), np.array([0, 1, 0, 1])
        assert matthews(one, both) == Figure(value=None, reason="all targets are of one class")
        assert "predictions" in (matthews(both, one).reason or "")
        assert cohen_kappa_quadratic(one, one, [0, 1]).value is None
        assert cohen_kappa_quadratic(one, both, [0, 1]).value == 0.0

    @given(st.integers(0, 10**6))
    @property_test
    def test_specificity_is_the_recall_of_all_others(self, seed: int) -> None:
        targets, predicted = answers(seed)
        scores = class_scores(indicator(targets, 6), indicator(predicted, 6))
        for position, entry in enumerate(scores):
            others, named = targets == position, predicted == position
            expected = sk.recall_score(others, named, pos_label=False)
            assert entry.specificity.value == pytest.approx(expected)

    def test_specificity_needs_a_picture_of_another_class(self) -> None:
        truth = indicator(np.array([[1, 0], [1, UNKNOWN]]), 2)
        known = np.array([[True, True], [True, False]])
        first, second = class_scores(truth, truth, known)
        assert first.specificity.reason == "every picture is of this class"
        assert second.specificity.value == 1.0

    @pytest.mark.parametrize("grouped", [False, True])
    def test_resamples_equal_scikit_learn_on_repeated_rows(self, grouped: bool) -> None:
        targets, predicted = answers(3)
        groups = np.arange(200) // 5 if grouped else np.arange(200)
        bootstrap = GroupBootstrap(200, groups, resamples=4)
        counts = count_samples(bootstrap, indicator(targets, 5), indicator(predicted, 5))
        order = np.array([2, 0, 1, 4, 3])
        place = np.argsort(order)
        kappas = quadratic_kappa_samples(bootstrap, place[targets], place[predicted])
        weights = np.concatenate(list(bootstrap.weights()), axis=1).astype(np.int64)
        for resample in range(4):
            rows = np.repeat(np.arange(200), weights[groups, resample])
            true, named = targets[rows], predicted[rows]
            expected = sk.matthews_corrcoef(true, named)
            assert counts.matthews[resample] == pytest.approx(expected)
            expected = sk.cohen_kappa_score(true, named, labels=order, weights="quadratic")
            assert kappas[resample] == pytest.approx(expected, rel=1e-5)
            for position in range(5):
                expected = sk.recall_score(true == position, named == position, pos_label=False)
                assert counts.specificity[position, resample] == pytest.approx(expected)


class TestSeveralLabels:
    @given(st.integers(0, 10**6))
    @property_test
    def test_equal_scikit_learn_where_all_is_known(self, seed: int) -> None:
        targets, scores = tags(seed)
        named = named_indicator(scores, 0.5)
        wrong = sk.hamming_loss(targets, named.toarray())
        assert hamming_loss(targets, named).value == pytest.approx(wrong)
        exact = sk.accuracy_score(targets, named.toarray())
        assert exact_match(targets, named).value == pytest.approx(exact)
        rankable = (targets.sum(axis=1) % 4) > 0  # neither none nor all of four
        expected = sk.label_ranking_average_precision_score(targets[rankable], scores[rankable])
        assert label_ranking_average_precision(targets, scores).value == pytest.approx(expected)

    def test_label_ranking_of_the_example_in_scikit_learn_s_guide(self) -> None:
        targets = np.array([[1, 0, 0], [0, 0, 1]])
        scores = np.array([[0.75, 0.5, 1], [1, 0.2, 0.1]])
        # The tag of the first is second, that of the second third: (1/2 + 1/3) / 2.
        figure = label_ranking_average_precision(targets, scores)
        assert figure.value == pytest.approx(5 / 12)

    def test_what_is_unknown_counts_nowhere(self) -> None:
        targets = np.array([[1, 0, UNKNOWN], [0, 1, 0], [UNKNOWN] * 3])
        scores = np.array([[0.6, 0.7, 0.9], [0.1, 0.8, 0.2], [0.9, 0.9, 0.9]])
        named = named_indicator(scores, 0.5, targets != UNKNOWN)
        # Of five known decisions one is wrong: the second tag of the first picture.
        assert hamming_loss(targets, named).value == pytest.approx(1 / 5)
        # Only of the second picture all is known, and all is right.
        exact = exact_match(targets, named)
        assert exact.value == 1.0
        assert exact.reason == "over 1 picture of 3; of the others some tags are unknown"
        # First: its tag is second of two known ones; second: first; third: nothing to rank.
        ranking = label_ranking_average_precision(targets, scores)
        assert ranking.value == pytest.approx((1 / 2 + 1) / 2)
        assert "over 2 pictures of 3" in (ranking.reason or "")

    def test_undefined(self) -> None:
        targets = np.full((2, 2), UNKNOWN)
        named = named_indicator(np.ones((2, 2)), 0.5, targets != UNKNOWN)
        assert hamming_loss(targets, named).value is None
        assert exact_match(targets, named).value is None
        everything = np.array([[1, 1], [0, 0]])
        assert label_ranking_average_precision(everything, np.ones((2, 2))).value is None
        with pytest.raises(DataError, match="no pictures"):
            hamming_loss(np.zeros((0, 2), np.int64), named[:0])


class TestCalibration:
    @given(st.integers(0, 10**6), st.sampled_from([150, 600]))
    @property_test
    def test_adaptive_bins_are_scikit_learn_s_quantiles(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        scores = rng.permutation(np.linspace(0.01, 0.99, n))  # no ties, and n divides into 15
        truth = (rng.random(n) < scores**2).astype(np.int64)
        share, confidence = calibration_curve(truth, scores, n_bins=15, strategy="quantile")
        found = adaptive_calibration_error(truth[:, None], scores[:, None])
        assert found.value == pytest.approx(np.abs(share - confidence).mean())

    def test_equal_confidences_stay_together(self) -> None:
        # 0.9 for all of 20 answers, 18 of them right: no gap, however they are sorted.
        probabilities = np.tile([0.9, 0.1], (20, 1))
        targets = np.array([0] * 18 + [1] * 2)
        for rows in (np.arange(20), np.arange(20)[::-1]):
            found = adaptive_calibration_error(targets[rows], probabilities)
            assert found.value == pytest.approx(0, abs=1e-12)

    def test_before_calibration(self) -> None:
        metrics, table, targets = case(0, policy_update={"scale": (0.2,) * 4})
        plain = case(0)[0]
        before = metrics.calibration.uncalibrated
        assert before is not None
        assert before.nll.value == plain.calibration.nll.value != metrics.calibration.nll.value
        assert before.ece.value == plain.calibration.ece.value
        assert before.brier.value == plain.calibration.brier.value
        exact = np.exp(table.logits.astype(np.float64))
        exact /= exact.sum(axis=1, keepdims=True)
        assert before.nll.value == pytest.approx(sk.log_loss(targets, exact), rel=1e-5)


def case(
    seed: int,
    *,
    n: int = 60,
    signal: float = 2.0,
    group_size: int = 1,
    task: Any = "multiclass",
    names: Any = ("a", "b", "c", "d"),
    policy_update: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Metrics, PredictionTable, np.ndarray]:
    rng = np.random.default_rng(seed)
    space = LabelSpace.flat(task, names)
    shape = (n, len(space.names))
    if task == "multiclass":
        targets = rng.integers(0, shape[1], n)
        truth = np.eye(shape[1])[targets]
    else:
        targets = truth = (rng.random(shape) < 0.4).astype(np.int64)
    logits = (signal * (2 * truth - 1) + rng.normal(size=shape)).astype(np.float32)
    policy = DecisionPolicy.default(space).model_copy(update=policy_update or {})
    ids = tuple(map(str, range(n)))
    table = PredictionTable(ids, space.names, logits, calibrate(logits, policy, task))
    groups = np.arange(n) // group_size
    found = compute_metrics(table, targets, space, policy, groups=groups, about={}, **options)
    return found, table, targets


def shares(metrics: Metrics) -> dict[str, Figure]:
    """The figures that are plain shares of right (or wrong) answers."""
    of_classes = {
        f"{name} {field}": getattr(entry, field)
        for name, entry in metrics.per_class.items()
        for field in ("precision", "recall", "specificity", "f1")
    }
    names = ("top1", "top5", "micro_f1", "exact_match", "hamming_loss")
    return of_classes | {name: getattr(metrics, name) for name in names}


class TestIntervals:
    @pytest.mark.parametrize("groups", [1, 2, 20, 500])
    def test_exact_end_is_that_of_clopper_and_pearson(self, groups: int) -> None:
        for right in (0, groups):
            expected = binomtest(right, groups).proportion_ci(method="exact")
            assert exact_interval(right == groups, groups) == pytest.approx(tuple(expected))

    @given(
        st.integers(0, 10**6),
        st.sampled_from([-30.0, 0.0, 1.0, 3.0, 30.0]),
        st.sampled_from([1, 5]),
        st.sampled_from(["multiclass", "multilabel"]),
    )
    @property_test
    def test_interval_holds_its_value_and_is_no_point(
        self, seed: int, signal: float, group_size: int, task: str
    ) -> None:
        metrics, *_ = case(seed, signal=signal, group_size=group_size, task=task)
        for name, figure in shares(metrics).items():
            if figure.value in (0.0, 1.0):
                assert figure.ci95 is not None, name
            if figure.ci95 is not None:
                assert figure.value is not None
                assert figure.ci95[0] <= figure.value <= figure.ci95[1], name
                assert figure.ci95[0] < figure.ci95[1], name

    def test_groups_count_and_not_pictures(self) -> None:
        single, *_ = case(0, signal=30.0)
        grouped, *_ = case(0, signal=30.0, group_size=5)
        assert single.top1.ci95 == pytest.approx((0.025 ** (1 / 60), 1.0))
        assert grouped.top1.ci95 == pytest.approx((0.025 ** (1 / 12), 1.0))
        recall = single.per_class["a"]
        assert recall.recall.ci95 == pytest.approx((0.025 ** (1 / recall.support), 1.0))
        assert recall.specificity.ci95 == pytest.approx((0.025 ** (1 / (60 - recall.support)), 1))
        # F1 = 2 J / (1 + J), J being the share of right ones among those true or named.
        low = 0.025 ** (1 / recall.support)
        assert recall.f1.ci95 == pytest.approx((2 * low / (1 + low), 1.0))

    def test_a_figure_that_is_no_share_says_why_it_has_none(self) -> None:
        metrics, *_ = case(0, signal=30.0)
        assert metrics.auc_roc.macro.value == metrics.cohen_kappa.value == 1.0
        assert metrics.auc_roc.macro.ci95 is None is metrics.cohen_kappa.ci95
        assert "same in every resample" in (metrics.cohen_kappa.reason or "")

    def test_weights_that_are_not_kept_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept, *_ = case(1, task="multilabel")
        monkeypatch.setattr("taxon.metrics.bootstrap.WEIGHTS_KEPT", 0)
        assert case(1, task="multilabel")[0] == kept


class TestOrder:
    GRADES = LabelSpace.flat("multiclass", ["mild", "none", "severe"])

    def test_named(self) -> None:
        assert class_order(self.GRADES, ["none", "mild", "severe"]) == (1, 0, 2)
        assert class_order(self.GRADES) is None

    def test_whole_numbers_have_one(self) -> None:
        # As text, 10 comes before 2.
        assert class_order(LabelSpace.flat("multiclass", ["10", "2", "-1"])) == (0, 2, 1)
        assert class_order(LabelSpace.flat("multiclass", ["1", "01"])) is None
        assert class_order(LabelSpace.flat("multiclass", ["1", "2 mm"])) is None

    @pytest.mark.parametrize(
        ("ordered", "said"),
        [
            (["none", "mild"], "lacks 'severe'"),
            (["none", "mild", "mild", "severe"], "'mild' more than once"),
            (["none", "mild", "sever"], "Did you mean 'severe'"),
        ],
    )
    def test_exactly_the_classes(self, ordered: list[str], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            class_order(self.GRADES, ordered)

    def test_not_of_tags(self) -> None:
        space = LabelSpace.flat("multilabel", ["1", "2"])
        assert class_order(space) is None
        with pytest.raises(ConfigError, match="one class a picture"):
            class_order(space, ["1", "2"])

    def test_in_the_metrics(self) -> None:
        names = ("0", "1", "2", "10")
        metrics, table, targets = case(2, names=names, signal=0.5)
        place = np.argsort([0, 1, 3, 2])  # sorted as text: 0, 1, 10, 2
        predicted = table.probabilities.argmax(axis=1)
        expected = sk.cohen_kappa_score(place[targets], place[predicted], weights="quadratic")
        figure = metrics.cohen_kappa_quadratic
        assert figure.value == pytest.approx(expected)
        assert figure.reason == "in the order 0, 1, 2, 10"
        assert figure.ci95 is not None and figure.ci95[0] < expected < figure.ci95[1]
        reversed_, *_ = case(2, names=names, signal=0.5, ordered=["10", "2", "1", "0"])
        assert reversed_.cohen_kappa_quadratic.value == pytest.approx(expected)
        unordered, *_ = case(2, signal=0.5)
        assert "--ordered" in (unordered.cohen_kappa_quadratic.reason or "")


def test_figures_at_one_half_beside_those_at_the_thresholds() -> None:
    metrics, table, targets = case(
        4, task="multilabel", signal=0.7, policy_update={"thresholds": (0.9,) * 4}
    )
    named = (table.probabilities >= 0.5).astype(int)
    assert metrics.macro_f1_at_half.value == pytest.approx(
        sk.f1_score(targets, named, average="macro")
    )
    assert metrics.micro_f1_at_half.value == pytest.approx(
        sk.f1_score(targets, named, average="micro")
    )
    at_thresholds = (table.probabilities >= np.float32(0.9)).astype(int)
    assert metrics.micro_f1.value == pytest.approx(
        sk.f1_score(targets, at_thresholds, average="micro")
    )
    assert metrics.hamming_loss.value == pytest.approx(sk.hamming_loss(targets, at_thresholds))
    for figure in (metrics.macro_f1_at_half, metrics.hamming_loss, metrics.exact_match):
        assert figure.ci95 is not None


def test_metrics_of_an_older_version_are_read() -> None:
    content = case(0)[0].as_json()
    for name in ("matthews", "cohen_kappa_quadratic", "exact_match", "slices"):
        del content[name]
    del content["per_class"]["a"]["specificity"]
    del content["calibration"]["uncalibrated"]
    read = Metrics.model_validate(content)
    assert "not computed by the version" in (read.matthews.reason or "")
    assert read.per_class["a"].specificity.value is None

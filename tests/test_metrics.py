"""Metrics: small cases worked by hand, and agreement with scikit-learn on random data."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from taxon.core.errors import DataError
from taxon.metrics import (
    Figure,
    GroupBootstrap,
    average_precision,
    balanced_accuracy,
    brier_score,
    calibration_error_by_chance,
    class_scores,
    cohen_kappa,
    confusion_matrix,
    expected_calibration_error,
    f1_averages,
    headline,
    indicator,
    interval,
    log_loss,
    mean_of_defined,
    named_indicator,
    predicted_classes,
    reliability_bins,
    roc_auc,
    selection_score,
    top_k_accuracy,
    top_k_hits,
    undefined,
)
from taxon.metrics.calibration import row_brier_scores
from taxon.metrics.ranking import row_log_losses
from taxon.metrics.resampled import count_samples, ranking_samples

pytestmark = pytest.mark.filterwarnings("error")

# Four pictures of three classes. Predictions: 0, 1, 1, 0; the last is wrong.
TARGETS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4]], np.float32
)
PREDICTED = np.array([0, 1, 1, 0])


def random_case(n: int = 400, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes))
    logits[np.arange(n), targets] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return targets, probabilities.astype(np.float32)


def random_tags(n: int = 400, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = (generator.random((n, classes)) < 0.3).astype(np.int64)
    # Rounded, so that many scores tie.
    scores = np.round(0.4 * targets + 0.6 * generator.random((n, classes)), 1)
    return targets, scores.astype(np.float32)


class TestByHand:
    def test_top_k(self) -> None:
        assert top_k_accuracy(TARGETS, PROBABILITIES, 1).value == 3 / 4
        # The last picture's class 2 is second: 0.5, then 0.4.
        assert top_k_accuracy(TARGETS, PROBABILITIES, 2).value == 1.0

    def test_top_k_of_equal_scores_prefers_the_earlier_class(self) -> None:
        scores = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
        assert top_k_hits(np.array([0, 1]), scores, 1).tolist() == [True, False]
        assert predicted_classes(scores).tolist() == [0, 0]

    def test_top5_needs_six_classes(self) -> None:
        targets, probabilities = random_case(classes=5)
        figure = top_k_accuracy(targets, probabilities, 5)
        assert figure.value is None
        assert "more than 5" in (figure.reason or "")
        targets, probabilities = random_case(classes=6)
        assert top_k_accuracy(targets, probabilities, 5).value is not None

    def test_balanced_accuracy(self) -> None:
        # Recalls 1/1, 2/2, 0/1.
        assert balanced_accuracy(TARGETS, PREDICTED).value == pytest.approx(2 / 3)

    def test_kappa(self) -> None:
        # Agreement 3/4; chance (1*2 + 2*2 + 1*0) / 16 = 3/8; (3/4 - 3/8) / (1 - 3/8) = 3/5.
        assert cohen_kappa(TARGETS, PREDICTED).value == pytest.approx(3 / 5)

    def test_confusion(self) -> None:
        assert confusion_matrix(TARGETS, PREDICTED, 3).tolist() == [[1, 0, 0], [0, 2, 0], [1, 0, 0]]

    def test_per_class(self) -> None:
        scores = class_scores(indicator(TARGETS, 3), indicator(PREDICTED, 3))
        # Class 0: named twice, once rightly: precision 1/2, recall 1, F1 = 2*1/(1+2) = 2/3.
        assert scores[0].precision.value == 1 / 2
        assert scores[0].recall.value == 1.0
        assert scores[0].f1.value == pytest.approx(2 / 3)
        assert scores[1].f1.value == 1.0
        assert scores[1].support == 2
        # Class 2 occurs and is never named: F1 is 0, precision has no meaning.
        assert scores[2].f1.value == 0.0
        assert scores[2].precision == undefined("never predicted")

    def test_f1_averages(self) -> None:
        averages = f1_averages(indicator(TARGETS, 3), indicator(PREDICTED, 3))
        # F1s 2/3, 1, 0 with supports 1, 2, 1.
        assert averages.macro.value == pytest.approx((2 / 3 + 1 + 0) / 3)
        assert averages.weighted.value == pytest.approx((2 / 3 + 2 * 1 + 0) / 4)
        assert averages.micro.value == pytest.approx(3 / 4)

    def test_log_loss(self) -> None:
        expected = -(math.log(0.7) + math.log(0.8) + math.log(0.6) + math.log(0.4)) / 4
        assert log_loss(TARGETS, PROBABILITIES).value == pytest.approx(expected, rel=1e-6)

    def test_log_loss_multilabel(self) -> None:
        targets, probabilities = np.array([[1, 0]]), np.array([[0.8, 0.3]], np.float32)
        expected = -(math.log(0.8) + math.log(1 - 0.3)) / 2
        assert log_loss(targets, probabilities).value == pytest.approx(expected, rel=1e-6)

    def test_auc_and_average_precision(self) -> None:
        truth = indicator(np.array([[1], [0], [1], [0]]), 1)
        scores = np.array([[0.9], [0.8], [0.7], [0.1]], np.float32)
        # Of the 4 pairs (positive, negative) 3 are in order: 0.9 > 0.8, 0.9 > 0.1, 0.7 > 0.1.
        assert roc_auc(truth, scores)[0].value == pytest.approx(3 / 4)
        # Positives found at ranks 1 and 3: (1/1 + 2/3) / 2.
        assert average_precision(truth, scores)[0].value == pytest.approx((1 + 2 / 3) / 2)

    def test_brier(self) -> None:
        # Row 1: 0.3^2 + 0.2^2 + 0.1^2 = 0.14; then 0.06, 0.26, 0.25 + 0.01 + 0.36 = 0.62.
        assert brier_score(TARGETS, PROBABILITIES).value == pytest.approx(
            (0.14 + 0.06 + 0.26 + 0.62) / 4, rel=1e-5
        )
        tags = brier_score(np.array([[1, 0]]), np.array([[0.8, 0.3]], np.float32))
        assert tags.value == pytest.approx((0.04 + 0.09) / 2, rel=1e-5)

    def test_ece(self) -> None:
        # Confidences 0.7, 0.8, 0.6, 0.5, each alone in its bin of width 1/15; the last is wrong.
        expected = (0.3 + 0.2 + 0.4 + 0.5) / 4
        assert expected_calibration_error(TARGETS, PROBABILITIES).value == pytest.approx(
            expected, rel=1e-5
        )

    def test_ece_pools_within_a_bin(self) -> None:
        # Both in the bin (0.6, 0.667]: mean confidence 0.63, accuracy 1/2.
        probabilities = np.array([[0.62, 0.38], [0.64, 0.36]], np.float32)
        figure = expected_calibration_error(np.array([0, 1]), probabilities)
        assert figure.value == pytest.approx(0.13, rel=1e-4)

    def test_ece_by_chance_of_one_bin(self) -> None:
        # 400 answers at 0.6: a share of right ones is off by sqrt(0.24 / 400) = 0.0245, of whose
        # absolute value the mean is sqrt(2 / pi) and the 97.5th percentile 2.24 (half-normal).
        probabilities = np.tile(np.array([[0.6, 0.4]], np.float32), (400, 1))
        chance = calibration_error_by_chance(np.zeros(400, np.int64), probabilities)
        assert chance.value == pytest.approx(0.0245 * math.sqrt(2 / math.pi), rel=0.1)
        assert chance.ci95 is not None
        assert chance.ci95[1] == pytest.approx(0.0245 * 2.24, rel=0.15)

    @pytest.mark.parametrize("several", [False, True])
    def test_ece_of_calibrated_answers_is_what_chance_makes_of_it(self, several: bool) -> None:
        """With a known truth: in 95 of 100 cases within the range, and in the mean its middle."""
        within, above = 0, []
        for seed in range(200):
            generator = np.random.default_rng(seed)
            if several:
                probabilities = generator.random((60, 4)).astype(np.float32)
                targets = (generator.random((60, 4)) < probabilities).astype(np.int64)
            else:
                sure = generator.uniform(0.5, 1.0, 220)
                probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
                targets = (generator.random(220) > sure).astype(np.int64)
            found = expected_calibration_error(targets, probabilities).value
            chance = calibration_error_by_chance(targets, probabilities)
            assert found is not None
            assert chance.value is not None
            assert chance.ci95 is not None
            within += chance.ci95[0] <= found <= chance.ci95[1]
            above.append(found - chance.value)
        # The middle 99 % of a binomial of 200 with 0.95, a little wider for the drawn range.
        assert 180 <= within <= 198
        assert abs(np.mean(above)) < 0.003

    def test_ece_by_chance_of_many_answers(self) -> None:
        """Above 1,000 in a bin they are drawn from a normal distribution, to the same end."""
        probabilities = np.tile(np.array([[0.6, 0.4]], np.float32), (4000, 1))
        chance = calibration_error_by_chance(np.zeros(4000, np.int64), probabilities)
        error = math.sqrt(0.24 / 4000)
        assert chance.value == pytest.approx(error * math.sqrt(2 / math.pi), rel=0.1)
        assert chance.ci95 is not None
        assert chance.ci95[1] == pytest.approx(error * 2.24, rel=0.15)

    def test_ece_by_chance_leaves_out_what_is_unknown(self) -> None:
        probabilities = np.random.default_rng(0).random((50, 2)).astype(np.float32)
        targets = np.stack([np.ones(50, np.int64), np.full(50, -1)], axis=1)
        alone = calibration_error_by_chance(targets[:, :1], probabilities[:, :1])
        assert calibration_error_by_chance(targets, probabilities) == alone
        assert calibration_error_by_chance(targets * 0 - 1, probabilities).value is None

    def test_reliability_bins_hold_their_upper_edge_and_zero(self) -> None:
        targets, probabilities = np.array([[1], [0]]), np.array([[1.0], [0.0]], np.float32)
        bins = reliability_bins(targets, probabilities)
        assert bins.counts.tolist() == [1] + [0] * 13 + [1]
        assert bins.accuracy[0] == 0.0
        assert bins.accuracy[-1] == 1.0
        assert np.isnan(bins.accuracy[5])

    def test_selection_score_counts_an_invented_class(self) -> None:
        # Class 1 does not occur but is named once: F1s 2*1/(1+2) = 2/3 and 0.
        scores = np.array([[0.9, 0.1], [0.2, 0.8]])
        assert selection_score("multiclass", np.array([0, 0]), scores) == pytest.approx(1 / 3)

    def test_selection_score_multilabel(self) -> None:
        targets = np.array([[1, 0, 0], [1, 1, 0]])
        scores = np.array([[0.9, 0.6, 0.1], [0.2, 0.7, 0.1]])
        # F1s 2/3 (one of two found) and 2/3 (one wrong of two); class 2 nowhere: left out.
        assert selection_score("multilabel", targets, scores) == pytest.approx(2 / 3)
        # With a threshold of 0.65 for class 1 its F1 is 1.
        higher = selection_score("multilabel", targets, scores, [0.5, 0.65, 0.5])
        assert higher == pytest.approx((2 / 3 + 1) / 2)

    def test_headline(self) -> None:
        assert headline("multiclass", TARGETS, PROBABILITIES) == {
            "macro_f1": pytest.approx(5 / 9),
            "top1": 0.75,
        }
        targets, scores = random_tags()
        expected = np.mean(
            [sk.average_precision_score(targets[:, c], scores[:, c]) for c in range(5)]
        )
        assert headline("multilabel", targets, scores)["mAP"] == pytest.approx(expected)
        nothing = np.zeros((3, 2), np.int64)
        assert headline("multilabel", nothing, np.zeros((3, 2))) == {"macro_f1": 0.0}


class TestAgreementWithScikitLearn:
    def test_multiclass(self) -> None:
        targets, probabilities = random_case()
        predicted = predicted_classes(probabilities)
        truth, named = indicator(targets, 7), indicator(predicted, 7)
        averages = f1_averages(truth, named)
        for name in ("macro", "micro", "weighted"):
            expected = sk.f1_score(targets, predicted, average=name)
            assert getattr(averages, name).value == pytest.approx(expected)
        assert balanced_accuracy(targets, predicted).value == pytest.approx(
            sk.balanced_accuracy_score(targets, predicted)
        )
        assert top_k_accuracy(targets, probabilities, 5).value == pytest.approx(
            sk.top_k_accuracy_score(targets, probabilities, k=5)
        )
        macro = mean_of_defined(roc_auc(truth, probabilities))
        exact = probabilities.astype(np.float64)
        exact /= exact.sum(axis=1, keepdims=True)
        assert macro.value == pytest.approx(
            sk.roc_auc_score(targets, exact, multi_class="ovr"), rel=1e-6
        )
        assert row_log_losses(targets, probabilities).mean() == pytest.approx(
            log_loss(targets, probabilities).value
        )

    def test_multilabel(self) -> None:
        targets, scores = random_tags()
        truth, named = indicator(targets, 5), named_indicator(scores, 0.5)
        averages = f1_averages(truth, named)
        for name in ("macro", "micro", "weighted"):
            expected = sk.f1_score(targets, named.toarray(), average=name)
            assert getattr(averages, name).value == pytest.approx(expected)
        assert mean_of_defined(average_precision(truth, scores)).value == pytest.approx(
            sk.average_precision_score(targets, scores, average="macro")
        )
        assert selection_score("multilabel", targets, scores) == pytest.approx(averages.macro.value)
        assert row_log_losses(targets, scores).mean() == pytest.approx(
            log_loss(targets, scores).value
        )
        assert row_brier_scores(targets, scores).mean() == pytest.approx(
            sk.brier_score_loss(targets.ravel(), scores.ravel().astype(np.float64))
        )

    @pytest.mark.parametrize("task", ["multiclass", "multilabel"])
    @pytest.mark.parametrize("grouped", [False, True])
    def test_resamples_equal_scikit_learn_on_repeated_rows(self, task: str, grouped: bool) -> None:
        targets, scores = random_case() if task == "multiclass" else random_tags()
        n, classes = scores.shape
        truth = indicator(targets, classes)
        named = (
            indicator(predicted_classes(scores), classes)
            if task == "multiclass"
            else named_indicator(scores, 0.5)
        )
        groups = np.arange(n) // 4 if grouped else np.arange(n)
        bootstrap = GroupBootstrap(n, groups, resamples=3)
        weights = np.concatenate(list(bootstrap.weights()), axis=1).astype(np.int64)
        counts = count_samples(bootstrap, truth, named)
        auc, precision = ranking_samples(bootstrap, truth, scores)
        for resample in range(3):
            rows = np.repeat(np.arange(n), weights[groups, resample])
            true, said = truth.toarray()[rows], named.toarray()[rows]
            for name in ("macro", "micro", "weighted"):
                expected = sk.f1_score(true, said, average=name)
                assert getattr(counts, f"{name}_f1")[resample] == pytest.approx(expected)
            assert auc[:, resample] == pytest.approx(
                sk.roc_auc_score(true, scores[rows], average=None), abs=1e-5
            )
            assert precision[:, resample] == pytest.approx(
                sk.average_precision_score(true, scores[rows], average=None), abs=1e-5
            )
            if task == "multiclass":
                pair = (targets[rows], predicted_classes(scores)[rows])
                assert counts.cohen_kappa[resample] == pytest.approx(sk.cohen_kappa_score(*pair))
                assert counts.balanced_accuracy[resample] == pytest.approx(
                    sk.balanced_accuracy_score(*pair)
                )


class TestUndefined:
    def test_absent_class(self) -> None:
        targets, predicted = np.array([0, 0, 1]), np.array([0, 2, 1])
        truth, named = indicator(targets, 4), indicator(predicted, 4)
        scores = class_scores(truth, named)
        # Class 2 is named but does not occur; class 3 neither.
        for position in (2, 3):
            assert scores[position].f1 == undefined("no pictures of this class")
            assert scores[position].precision.value is None
            assert scores[position].support == 0
        macro = f1_averages(truth, named).macro
        # F1s 2*1/(1+2) = 2/3 and 1.
        assert macro.value == pytest.approx((2 / 3 + 1) / 2)
        assert "2 of 4 classes" in (macro.reason or "")
        probabilities = np.full((3, 4), 0.25, np.float32)
        assert roc_auc(truth, probabilities)[3] == undefined("no pictures of this class")
        assert average_precision(truth, probabilities)[3].value is None
        assert balanced_accuracy(targets, predicted).value == pytest.approx((1 / 2 + 1) / 2)

    def test_single_class(self) -> None:
        targets, predicted = np.zeros(3, np.int64), np.zeros(3, np.int64)
        truth = indicator(targets, 2)
        assert cohen_kappa(targets, predicted).value is None
        assert roc_auc(truth, np.full((3, 2), 0.5))[0] == undefined(
            "every picture is of this class"
        )
        assert mean_of_defined(roc_auc(truth, np.full((3, 2), 0.5))).value is None
        assert f1_averages(truth, truth).macro.value == 1.0

    def test_no_tags_at_all(self) -> None:
        nothing = indicator(np.zeros((3, 2), np.int64), 2)
        averages = f1_averages(nothing, nothing)
        assert averages.macro.value is None
        assert averages.micro.value is None

    def test_empty(self) -> None:
        none, scores = np.array([], np.int64), np.zeros((0, 3), np.float32)
        for call in (
            lambda: top_k_accuracy(none, scores, 1),
            lambda: balanced_accuracy(none, none),
            lambda: cohen_kappa(none, none),
            lambda: confusion_matrix(none, none, 3),
            lambda: indicator(none, 3),
            lambda: log_loss(none, scores),
            lambda: brier_score(none, scores),
            lambda: expected_calibration_error(none, scores),
            lambda: selection_score("multiclass", none, scores),
            lambda: GroupBootstrap(0),
        ):
            with pytest.raises(DataError, match="no pictures"):
                call()

    def test_targets_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="outside 0 to 2"):
            indicator(np.array([0, 3]), 3)
        with pytest.raises(ValueError, match="0, 1 and -1"):
            indicator(np.array([[0, 2]]), 2)

    def test_figure(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            Figure.of(float("nan"))
        assert Figure.of(0.5).model_dump() == {"value": 0.5}
        assert undefined("why").model_dump() == {"value": None, "reason": "why"}
        assert undefined("why").with_interval((0.0, 1.0)).ci95 is None


class TestIntervals:
    def test_holds_the_value_and_narrows_with_n(self) -> None:
        widths = []
        for n in (100, 1600):
            hits = np.arange(n) % 5 > 0
            found = interval(0.8, GroupBootstrap(n).means(hits))
            assert found is not None
            assert found[0] < 0.8 < found[1]
            widths.append(found[1] - found[0])
        # 16 times the pictures: a quarter of the width.
        assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)
        # A proportion's normal interval: 2 * 1.96 * sqrt(0.8 * 0.2 / 1600).
        assert widths[1] == pytest.approx(0.0392, rel=0.1)

    def test_copies_within_a_group_add_nothing(self) -> None:
        hits = np.repeat(np.arange(50) % 5 > 0, 4)
        groups = np.repeat(np.arange(50), 4)
        alone = interval(0.8, GroupBootstrap(200).means(hits))
        grouped = interval(0.8, GroupBootstrap(200, groups).means(hits))
        once = interval(0.8, GroupBootstrap(50).means(hits[::4]))
        assert alone is not None and grouped is not None and once is not None
        # Copies carry no information: as wide as the 50 alone, twice as wide as 200.
        assert grouped == pytest.approx(once)
        assert grouped[1] - grouped[0] > 1.6 * (alone[1] - alone[0])

    def test_any_group_ids_will_do(self) -> None:
        hits = np.array([1, 0, 1, 1])
        first = GroupBootstrap(4, np.array([7, 7, -3, 900])).means(hits)
        second = GroupBootstrap(4, np.array([1, 1, 0, 2])).means(hits)
        assert (first == second).all()
        with pytest.raises(ValueError, match="2 group ids for 4"):
            GroupBootstrap(4, np.array([0, 1]))

    def test_same_seed_same_blocks_whatever_the_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = np.concatenate(list(GroupBootstrap(20, resamples=10).weights()), axis=1)
        assert (whole.sum(axis=0) == 20).all()
        monkeypatch.setattr("taxon.metrics.bootstrap.WEIGHTS_AT_ONCE", 60)
        blocks = list(GroupBootstrap(20, resamples=10).weights())
        assert [block.shape[1] for block in blocks] == [3, 3, 3, 1]
        assert (np.concatenate(blocks, axis=1) == whole).all()

    def test_undefined_resamples(self) -> None:
        assert interval(0.5, np.array([np.nan, np.nan, 0.5, np.nan, 0.6])) is None
        assert interval(None, np.array([0.5, 0.6])) is None
        assert interval(0.9, np.array([0.5, 0.6, np.nan])) == (pytest.approx(0.5025), 0.9)

    def test_a_class_missing_from_resamples_does_not_warn(self) -> None:
        targets = np.array([0, 0, 0, 1])
        truth = indicator(targets, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bootstrap = GroupBootstrap(4, resamples=50)
            counts = count_samples(bootstrap, truth, truth)
            auc, _ = ranking_samples(bootstrap, truth, np.full((4, 3), 1 / 3, np.float32))
        assert np.isnan(counts.f1[2]).all()
        assert np.isnan(auc[2]).all()
        # All scores tie: exactly one half wherever it is defined.
        assert np.nanmin(auc[0]) == np.nanmax(auc[0]) == 0.5

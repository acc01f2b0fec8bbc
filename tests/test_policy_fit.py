"""The decision policy is fitted: what it promises is simulated with a known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import log_softmax, softmax

from taxon.config import DecisionConfig
from taxon.core.errors import ConfigError
from taxon.core.labels import UNKNOWN, LabelSpace
from taxon.decision import calibrate, decide
from taxon.decision.answers import answer_confidence, named_classes, wrong_answers
from taxon.decision.fit import PolicyFit, fit_policy
from taxon.decision.fitting.abstention import fit_abstention
from taxon.decision.fitting.calibration import best_platt
from taxon.decision.fitting.f1_thresholds import best_f1_threshold, expected_f1_threshold
from taxon.decision.fitting.part import CalibrationPart
from taxon.decision.fitting.scope import ScopeEvidence, fit_scope, leave_class_out
from taxon.decision.fitting.sets import conformal_limit
from taxon.decision.fitting.targets import recall_threshold
from taxon.decision.policy import DecisionPolicy, PredictionSets
from taxon.decision.scope import scope_scores
from taxon.decision.sets import prediction_sets, set_scores
from taxon.metrics import expected_calibration_error

ABC = LabelSpace.flat("multiclass", ["a", "b", "c"])
TAGS = LabelSpace.flat("multilabel", ["a", "b", "c"])
PLAIN = DecisionConfig(set_coverage=None, out_of_scope="none")

FLOATS = npt.NDArray[np.float32]
INTS = npt.NDArray[np.int64]


def part_of(
    logits: npt.NDArray[np.floating], targets: INTS, space: LabelSpace, groups: INTS | None = None
) -> CalibrationPart:
    own = np.arange(len(logits)) if groups is None else groups
    return CalibrationPart("calibration", np.asarray(logits, np.float32), targets, space, own)


def fitted(part: CalibrationPart, **changes: object) -> PolicyFit:
    return fit_policy(part, PLAIN.model_validate(PLAIN.model_dump() | changes))


def sampled(
    temperature: float, *, seed: int = 0, count: int = 3000, classes: int = 3
) -> CalibrationPart:
    """Logits, and targets that follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    space = LabelSpace.flat("multiclass", [f"{number:03d}" for number in range(classes)])
    logits = rng.normal(size=(count, classes)) * 3
    truth = softmax(logits / temperature, axis=1)
    targets = (rng.random((count, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return part_of(logits, np.minimum(targets, classes - 1).astype(np.int64), space)


# Calibration


def log_loss(part: CalibrationPart, temperature: float) -> float:
    rows = log_softmax(part.logits.astype(np.float64) / temperature, axis=1)
    return -float(rows[np.arange(len(part)), part.targets].mean())


@pytest.mark.parametrize("temperature", [0.4, 2.5, 6.0])
def test_temperature_is_recovered_and_lowers_loss_and_ece_of_other_pictures(
    temperature: float,
) -> None:
    fit = fitted(sampled(temperature))
    found = fit.policy.temperature
    assert found == pytest.approx(temperature, rel=0.1)
    assert fit.policy.fitted_on == "calibration"
    assert "held-out log loss" in fit.notes[0] and "ECE" in fit.notes[0]
    other = sampled(temperature, seed=1)
    assert log_loss(other, found) < log_loss(other, 1.0) - 0.01
    before, after = (
        expected_calibration_error(other.targets, calibrate(other.logits, policy, "multiclass"))
        for policy in (DecisionPolicy.default(other.label_space), fit.policy)
    )
    assert before.value is not None and after.value is not None
    assert after.value < min(0.03, before.value)


def test_temperature_that_does_not_help_held_out_pictures_is_refused() -> None:
    """Where probabilities are right already, a temperature fits the noise of the part."""
    refused = [fitted(sampled(1.0, seed=seed, count=60)).policy.temperature for seed in range(20)]
    # Unlike a fit that looks at its own part, which always finds something better than 1.
    assert sum(temperature == 1 for temperature in refused) >= 8
    note = fitted(part_of(np.zeros((10, 3)), np.zeros(10, np.int64), ABC)).notes[0]
    assert "refused" in note


def test_calibration_can_be_left_out() -> None:
    assert fitted(sampled(3.0, count=200), calibrate=False).policy.temperature == 1


def test_fit_does_not_change_the_order_of_the_classes() -> None:
    part = sampled(3.0, count=300)
    probabilities = calibrate(part.logits, fitted(part).policy, "multiclass")
    assert (probabilities.argmax(axis=1) == part.logits.argmax(axis=1)).all()


def test_groups_are_never_on_two_sides() -> None:
    """Copies of a picture vouch for each other: what fits their noise looks fine on the others."""
    part, rows = sampled(1.0, count=20, seed=6), np.repeat(np.arange(20), 10)
    both = part.logits[rows], part.targets[rows], part.label_space
    assert fitted(part_of(*both)).policy.temperature != 1
    assert fitted(part_of(*both, groups=rows)).policy.temperature == 1
    assert fitted(part).policy.temperature == 1


@pytest.mark.parametrize("space", [ABC, TAGS])
def test_no_pictures_give_the_default_policy_and_a_note(space: LabelSpace) -> None:
    targets = np.zeros((0,) if space.task == "multiclass" else (0, 3), np.int64)
    fit = fit_policy(part_of(np.zeros((0, 3)), targets, space), DecisionConfig())
    assert fit.policy == DecisionPolicy.default(space)
    assert "no pictures" in fit.notes[0]


def test_platt_recovers_scale_and_bias() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000).astype(np.float32) * 2
    truth = (rng.random(4000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))).astype(np.int64)
    assert best_platt(logits, truth) == pytest.approx((0.5, -1.0), abs=0.1)


def tags(
    count: int, *, seed: int = 0, rates: tuple[float, ...] = (0.3, 0.3, 0.3)
) -> CalibrationPart:
    """Three tags whose logits are twice too sure and 1 too high; the third one's are right."""
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(count, 3)) * 2 + np.log(np.array(rates) / (1 - np.array(rates)))
    targets = (rng.random((count, 3)) < 1 / (1 + np.exp(-right))).astype(np.int64)
    return part_of(right * (2, 2, 1) + (1, 1, 0), targets, TAGS)


def test_each_tag_gets_its_scale_and_bias() -> None:
    policy = fitted(tags(6000)).policy
    assert policy.scale == pytest.approx((0.5, 0.5, 1.0), abs=0.08)
    assert policy.bias == pytest.approx((-0.5, -0.5, 0.0), abs=0.12)
    assert policy.temperature is None


def test_rare_tag_is_calibrated_with_the_others_and_named() -> None:
    part = tags(2000)
    few = part.targets.copy()
    few[:, 0] = 0
    few[:4, 0] = 1
    fit = fitted(part_of(part.logits, few, TAGS))
    assert any(note.startswith("'a': fewer than 10") for note in fit.notes)
    assert fit.policy.scale[0] < 0.9 and fit.policy.bias[0] < 0


def test_rare_tag_is_calibrated_where_every_picture_has_a_tag() -> None:
    """No picture is a counter-example of all tags: folds must not need one."""
    part = tags(2000)
    truth = part.targets.copy()
    truth[truth.sum(axis=1) == 0, 1] = 1
    truth[:, 0] = 0
    truth[:4] = (1, 1, 0)
    fit = fitted(part_of(part.logits, truth, TAGS))
    assert not any("too few examples to hold some out" in note for note in fit.notes)
    assert fit.policy.scale[0] != 1


# Thresholds


def f1(truth: INTS, named: npt.NDArray[np.bool_]) -> float:
    return 2 * float((truth * named).sum()) / float(truth.sum() + named.sum())


@st.composite
def scored(draw: st.DrawFn) -> tuple[INTS, FLOATS]:
    count = draw(st.integers(1, 25))
    # Few distinct values among the scores: ties must happen.
    few = st.sampled_from([0.0, 0.25, 0.5, 0.75, float(np.float32(0.99999994)), 1.0])
    scores = st.one_of(few, st.floats(0, 1, width=32))
    truth = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 1)))
    truth[draw(st.integers(0, count - 1))] = 1
    return truth, draw(hnp.arrays(np.float32, count, elements=scores))


def neighbours(value: float) -> tuple[INTS, FLOATS]:
    below = np.nextafter(np.float32(value), np.float32(0))
    return np.array([1, 0]), np.array([value, below], np.float32)


@given(scored())
@example(neighbours(0.5))
@example(neighbours(np.nextafter(np.float32(0.5), np.float32(1))))
@example(neighbours(np.nextafter(np.float32(1), np.float32(0))))
@settings(max_examples=200, deadline=None)
def test_f1_threshold_is_as_good_as_the_best_of_all(case: tuple[INTS, FLOATS]) -> None:
    truth, scores = case
    found = best_f1_threshold(truth, scores)
    best = max(f1(truth, scores >= threshold) for threshold in scores)
    # As `decide` names a tag: in float32.
    assert f1(truth, scores >= np.float32(found)) == pytest.approx(best)
    assert 0 <= found <= 1


def test_f1_threshold_lies_midway_between_the_scores() -> None:
    scores = np.array([0.75, 0.5, 0.25, 0.125], np.float32)
    assert best_f1_threshold(np.array([1, 1, 0, 0]), scores) == pytest.approx(0.375)


def test_thresholds_by_f1_beat_one_half_on_other_pictures() -> None:
    rates = (0.05, 0.5, 0.1)
    policy = fitted(tags(3000, rates=rates)).policy
    other = tags(3000, seed=1, rates=rates)
    probabilities = calibrate(other.logits, policy, "multilabel")
    for column, threshold in enumerate(policy.thresholds):
        truth, scores = other.targets[:, column], probabilities[:, column]
        assert f1(truth, scores >= threshold) >= f1(truth, scores >= 0.5)
    assert policy.thresholds[0] < 0.45 and policy.thresholds[2] < 0.45


def test_rare_tag_takes_the_shared_threshold_and_is_named() -> None:
    part = tags(400, rates=(0.02, 0.3, 0.3))
    positives = int(part.targets[:, 0].sum())
    fit = fitted(part, threshold_support=positives + 1)
    rare = fit.policy.thresholds[0]
    said = f"the shared threshold {rare:.2f}"
    assert any("'a'" in note and said in note for note in fit.notes)
    everywhere = part.targets.copy()
    everywhere[:, 1] = 1
    assert len(set(fitted(part, threshold_support=10**6).policy.thresholds)) == 1
    assert fitted(part_of(part.logits, everywhere, TAGS)).policy.thresholds[1] > 0


def test_own_threshold_needs_to_be_better_on_held_out_folds() -> None:
    """Of tags that are all alike, own thresholds would follow the noise of a small part."""
    fit = fitted(mistaken(tags(60)), calibrate=False)
    assert "by the labels, surely better" in " ".join(fit.notes)
    assert len(set(fit.policy.thresholds)) < 3
    assert any("not better on held-out folds" in note for note in fit.notes)


def mistaken(part: CalibrationPart) -> CalibrationPart:
    """The same order of pictures, but far too low probabilities."""
    return replace(part, logits=part.logits - np.float32(5))


def mean_f1(part: CalibrationPart, policy: DecisionPolicy) -> float:
    named = calibrate(part.logits, policy, "multilabel") >= np.float32(policy.thresholds)
    return float(np.mean([f1(*columns) for columns in zip(part.targets.T, named.T, strict=True)]))


def test_few_pictures_do_not_lead_thresholds_astray() -> None:
    """Those by the labels alone follow their noise: every sixth is worse than one half."""
    other, gains, by_labels = tags(4000, seed=1000), [], []
    for seed in range(25):
        part = tags(40, seed=seed)
        policy = fitted(part).policy
        half = mean_f1(other, policy.model_copy(update={"thresholds": (0.5,) * 3}))
        gains.append(mean_f1(other, policy) - half)
        probabilities = calibrate(part.logits, policy, "multilabel")
        own = tuple(map(best_f1_threshold, part.targets.T, probabilities.T))
        by_labels.append(mean_f1(other, policy.model_copy(update={"thresholds": own})) - half)
    assert np.mean(gains) > np.mean(by_labels) and min(gains) > min(by_labels)
    worse, worse_by_labels = (np.mean(np.array(each) < -0.005) for each in (gains, by_labels))
    assert worse <= 0.1 <= worse_by_labels


def test_a_tag_that_is_known_of_one_group_alone() -> None:
    part = tags(60)
    targets, groups = part.targets.copy(), np.repeat(np.arange(3), 20)
    targets[20:, 0] = UNKNOWN
    policy = fitted(part_of(part.logits, targets, TAGS, groups), threshold_support=3).policy
    assert all(0 < threshold < 1 for threshold in policy.thresholds)


def test_nothing_to_compare_on_is_said() -> None:
    part = tags(60)
    alone = part_of(part.logits, part.targets, TAGS, np.zeros(60, np.int64))
    nothing = part_of(part.logits, np.zeros_like(part.targets), TAGS)
    for each in (alone, nothing):
        fit = fitted(each)
        assert any("nothing to compare with the labels on" in note for note in fit.notes)
        assert all(0 < threshold < 1 for threshold in fit.policy.thresholds)


def test_expected_threshold_is_half_of_the_best_expected_f1() -> None:
    probabilities = np.array([0.9, 0.6, 0.3, 0.1], np.float32)
    # Expected hits 0.9, 1.5, 1.8, 1.9 of 1.9: F1 1.8 / 2.9, 3 / 3.9, 3.6 / 4.9, 3.8 / 5.9.
    assert expected_f1_threshold(probabilities) == pytest.approx(3 / 3.9 / 2)
    # All are named, and new ones as far as it pays.
    assert expected_f1_threshold(np.full(5, 0.48, np.float32)) == pytest.approx(0.96 / 1.48 / 2)
    assert expected_f1_threshold(np.zeros(3, np.float32)) > 0


@given(hnp.arrays(np.float32, st.integers(1, 25), elements=st.floats(0, 1, width=32)))
def test_expected_threshold_is_as_good_as_any(probabilities: FLOATS) -> None:
    def expected(cut: float) -> float:
        named = probabilities >= np.float32(cut)
        return float(2 * probabilities[named].sum() / max(named.sum() + probabilities.sum(), 1e-9))

    found = expected(expected_f1_threshold(probabilities))
    assert found >= max(expected(float(cut)) for cut in probabilities) - 1e-3


def test_where_probabilities_are_mistaken_the_labels_decide() -> None:
    part, other = mistaken(tags(200)), mistaken(tags(4000, seed=1))
    fit = fitted(part, calibrate=False)
    probabilities = calibrate(other.logits, fit.policy, "multilabel")
    best = tuple(map(best_f1_threshold, other.targets.T, probabilities.T))
    reachable = mean_f1(other, fit.policy.model_copy(update={"thresholds": best}))
    assert mean_f1(other, fit.policy) > reachable - 0.03
    assert "by the labels, surely better on held-out folds" in fit.notes[0]


def test_recall_that_is_asked_for_holds_on_new_pictures() -> None:
    """Mean recall over 300 parts of 40 positives; the plain quantile would fall short by 1/41."""
    rng, recalls = np.random.default_rng(0), []
    for _ in range(300):
        scores = rng.random(60).astype(np.float32)
        threshold = recall_threshold(np.array([1] * 40 + [0] * 20), scores, 0.9).threshold
        recalls.append(1 - threshold)  # uniform scores: the chance to lie above it
    # The rank is floor(0.1 * 41) = 4, so that the expected recall is 1 - 4 / 41.
    assert np.mean(recalls) == pytest.approx(1 - 4 / 41, abs=0.008)


def test_recall_that_cannot_be_promised_names_everything_and_says_so() -> None:
    fit = fitted(tags(60, rates=(0.2, 0.3, 0.3)), target="recall", target_value=0.99)
    assert set(fit.policy.thresholds) == {0.0}
    assert any("99 are needed" in note for note in fit.notes)


def test_target_for_one_tag_leaves_the_others_at_the_best_f1() -> None:
    fit = fitted(tags(500), target="precision", target_value=0.9, target_class="b")
    by_f1 = fitted(tags(500)).policy.thresholds
    assert fit.policy.thresholds[::2] == by_f1[::2]
    assert fit.policy.thresholds[1] > by_f1[1]
    assert fit.policy.target == "precision of 'b' at least 0.9"
    leads = [note.partition(" by ")[0] for note in fit.notes if note.startswith("thresholds")]
    assert leads == ["thresholds", "thresholds of the other tags"]


def test_a_rare_tag_with_a_target_is_named_once() -> None:
    changes = {"target": "recall", "target_value": 0.8, "target_class": "b"}
    fit = fitted(tags(500), threshold_support=10**6, **changes)
    assert sum("'b'" in note and "shared threshold" in note for note in fit.notes) == 1


def test_precision_out_of_reach_never_names() -> None:
    part = part_of(np.zeros((100, 3)), np.tile([0, 1], (3, 50)).T.astype(np.int64), TAGS)
    fit = fitted(part, target="precision", target_value=0.9, calibrate=False)
    assert not decide("x", np.ones(3, np.float32), TAGS, fit.policy).labels
    assert any("no threshold has a precision" in note for note in fit.notes)


# Costs


def test_least_expected_cost_is_named() -> None:
    costs = {"a": {"b": 10.0, "c": 10.0}}
    policy = fitted(sampled_abc(), costs=costs).policy
    rows = np.array([[0.15, 0.6, 0.25], [0.05, 0.6, 0.35]], np.float32)
    # Naming b costs 10 * 0.15 + 0.25; naming a costs 0.6 + 0.25.
    assert named_classes(rows, ABC, policy).tolist() == [0, 1]
    assert decide("x", rows[0], ABC, policy).label == "a"
    assert decide("x", rows[0], ABC, policy).confidence == pytest.approx(0.15)


def sampled_abc(count: int = 900, seed: int = 0) -> CalibrationPart:
    part = sampled(1.0, seed=seed, count=count)
    return part_of(part.logits, part.targets, ABC)


def test_target_out_of_reach_always_or_never_names_the_class() -> None:
    """However sure the network is of something else, or of the class itself."""
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    always = fitted(sampled_abc(), target="recall", target_value=0.9999, target_class="b")
    assert named_classes(sure, ABC, always.policy).tolist() == [1, 1]
    part = sampled_abc(300)
    blind = part_of(np.zeros((300, 3)), part.targets, ABC)
    never = fitted(blind, target="precision", target_value=0.99, target_class="b", calibrate=False)
    assert 1 not in named_classes(sure, ABC, never.policy)
    assert always.broken and never.broken
    absent = part_of(part.logits, np.minimum(part.targets, 1) * 2, ABC)
    missing = fitted(absent, target="recall", target_value=0.9, target_class="b")
    assert "no picture of 'b'" in missing.broken[0]


def test_target_of_an_overconfident_network_is_kept_exactly() -> None:
    """Logits 40 times too large: probabilities of 0 and 1 alone must not lose the order."""
    part = sampled_abc(900)
    wild = part_of(part.logits * 20, part.targets, ABC)
    config = {"target": "recall", "target_value": 0.95, "target_class": "b"}
    policy = fitted(wild, calibrate=False, **config).policy
    named = named_classes(calibrate(wild.logits, policy, "multiclass"), ABC, policy) == 1
    assert (named & (part.targets == 1)).sum() / (part.targets == 1).sum() >= 0.95


@pytest.mark.parametrize("target", ["recall", "precision"])
def test_target_of_one_class_is_met_on_other_pictures(target: str) -> None:
    policy = fitted(sampled_abc(), target=target, target_value=0.95, target_class="b").policy
    other = sampled_abc(4000, seed=1)
    named = named_classes(calibrate(other.logits, policy, "multiclass"), ABC, policy) == 1
    truth = other.targets == 1
    found = (named & truth).sum() / (truth if target == "recall" else named).sum()
    assert found == pytest.approx(0.95, abs=0.02)
    plain = fitted(sampled_abc()).policy
    usual = named_classes(calibrate(other.logits, plain, "multiclass"), ABC, plain) == 1
    assert named.sum() != usual.sum()


def test_costs_of_tags_are_thresholds() -> None:
    policy = fitted(tags(300), costs={"a": {"missed": 9.0}, "b": {"false": 3.0}}).policy
    assert policy.thresholds == pytest.approx((0.1, 0.75, 0.5))


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        (ABC, {"costs": {"x": {"b": 1.0}}}, "unknown class 'x'"),
        (ABC, {"costs": {"a": {"b": -1.0}}}, "the cost of a -> b is -1.0"),
        (TAGS, {"costs": {"a": {"false": 0.0}}}, "allowed: above 0"),
        (TAGS, {"costs": {"a": {"wrong": 1.0}}}, "unknown kind of mistake 'wrong'"),
        (ABC, {"costs": {"a": {"a": 1.0}}}, "a right answer costs 0"),
        (ABC, {"target": "recall", "target_value": 0.9}, "needs the class"),
        (TAGS, {"target": "recall", "target_value": 0.9, "target_class": "d"}, "unknown class 'd'"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(
    space: LabelSpace, changes: dict[str, object], message: str
) -> None:
    part = sampled_abc(60) if space is ABC else tags(60)
    with pytest.raises(ConfigError, match=message):
        fitted(part, **changes)


# Abstention


def test_promised_risk_is_broken_in_few_repetitions() -> None:
    """200 parts of 900 answers that are right with the chance of their confidence; risk 10 %."""
    rng = np.random.default_rng(0)
    broken, kept = 0, 0
    for _ in range(200):
        confidence = rng.uniform(0.5, 1.0, 900)
        wrong = rng.random(900) > confidence
        fit = fit_abstention(confidence, wrong, risk=0.1, certainty=0.9, part="calibration")
        # Above a limit t confidences are uniform: the true risk is the mean of 1 - confidence.
        true_risk = 1 - (fit.abstain_below + 1) / 2
        broken += fit.kept and true_risk > 0.1
        kept += fit.kept
    assert kept > 150
    # A chance of 10 % at most: within the binomial error of 200 repetitions.
    assert broken <= stats.binom.ppf(0.999, 200, 0.1)


def test_promise_is_kept_through_the_whole_fit() -> None:
    """100 parts of 400 pictures whose logits are twice too sure; risk 20 %, certainty 90 %.

    Temperature and confidence come from the part itself; the true risk from a large sample.
    """
    new = sampled(2.0, seed=10_000, count=20_000)
    broken = 0
    for seed in range(100):
        fit = fitted(sampled(2.0, seed=seed, count=400), abstain_risk=0.2, abstain_confidence=0.9)
        probabilities = calibrate(new.logits, fit.policy, "multiclass")
        confidence = answer_confidence(probabilities, new.label_space, fit.policy)
        sure = confidence >= fit.policy.abstain_below
        wrong = wrong_answers(probabilities, new.targets, new.label_space, fit.policy)
        broken += bool(sure.any()) and bool(wrong[sure].mean() > 0.2)
    assert broken <= stats.binom.ppf(0.999, 100, 0.1)


def test_without_pictures_costs_hold_and_nothing_is_promised() -> None:
    empty = part_of(np.zeros((0, 3)), np.zeros(0, np.int64), ABC)
    fit = fitted(empty, costs={"a": {"b": 5.0}}, abstain_risk=0.1)
    assert fit.policy.costs is not None and fit.policy.abstain_below > 1
    assert "abstain_risk=0.1 cannot be promised" in fit.broken[0]


def test_limit_answers_as_many_as_the_bound_allows() -> None:
    confidence = np.linspace(1.0, 0.5, 400)
    wrong = np.arange(400) >= 300  # all mistakes come last
    fit = fit_abstention(confidence, wrong, risk=0.05, certainty=0.95, part="calibration")
    answered = int((confidence >= fit.abstain_below).sum())
    assert stats.beta.ppf(1 - 0.05 / 2, wrong[:answered].sum() + 1, 300) <= 0.05
    assert answered > 300


def test_risk_that_cannot_be_promised_makes_every_answer_unsure() -> None:
    fit = fitted(sampled(1.0, count=100), abstain_risk=0.01)
    assert fit.broken and "cannot be promised with 100 pictures" in fit.broken[0]
    sure = np.array([1, 0, 0], np.float32)
    assert decide("x", sure, sampled(1.0, count=1).label_space, fit.policy).unsure


def test_tags_are_right_only_all_together() -> None:
    fit = fitted(tags(2000, rates=(0.5, 0.5, 0.5)), abstain_risk=0.42)
    other = tags(4000, seed=1, rates=(0.5, 0.5, 0.5))
    probabilities = calibrate(other.logits, fit.policy, "multilabel")
    sure = answer_confidence(probabilities, TAGS, fit.policy) >= fit.policy.abstain_below
    wrong = wrong_answers(probabilities, other.targets, TAGS, fit.policy)
    assert 0.05 < sure.mean() < 0.95
    assert wrong[sure].mean() < 0.42 < wrong.mean()
    unknown = np.full_like(other.targets, UNKNOWN)
    assert not wrong_answers(probabilities, unknown, TAGS, fit.policy).any()


# Prediction sets


@pytest.mark.parametrize("method", ["lac", "raps"])
@pytest.mark.parametrize("per_class", [False, True])
def test_sets_hold_the_true_class_as_often_as_promised(method: str, per_class: bool) -> None:
    """200 repetitions: a part of 150 pictures, and 100 new ones; 5 classes."""
    hits: list[bool] = []
    by_class: list[list[bool]] = [[] for _ in range(5)]
    for seed in range(200):
        # Logits twice too sure: the promise needs no good probabilities.
        both = sampled(2.0, seed=seed, count=250, classes=5)
        part, new = both.select(np.arange(150)), both.select(np.arange(150, 250))
        policy = fitted(
            part,
            calibrate=method == "lac",
            set_coverage=0.8,
            set_method=method,
            set_per_class=per_class,
        ).policy
        probabilities = calibrate(new.logits, policy, "multiclass")
        assert policy.sets is not None
        inside = prediction_sets(probabilities, probabilities.argmax(axis=1), policy.sets)
        for target, row in zip(new.targets.tolist(), inside, strict=True):
            hits.append(bool(row[target]))
            by_class[target].append(bool(row[target]))
    # Each part's coverage varies as Beta (Vovk 2012): its deviation, over 200 parts.
    deviation = np.sqrt(0.8 * 0.2 / 152) / np.sqrt(200) + np.sqrt(0.16 / len(hits))
    assert np.mean(hits) >= 0.8 - 3 * deviation
    if not per_class:
        assert np.mean(hits) <= 0.8 + 1 / 151 + 3 * deviation + (0.05 if method == "raps" else 0)
    if per_class:
        for rows in by_class:
            assert np.mean(rows) >= 0.8 - 4 * np.sqrt(0.16 / 32 / 200) - 3 * np.sqrt(
                0.16 / len(rows)
            )


def test_limit_is_the_conformal_quantile() -> None:
    """Angelopoulos & Bates 2021: the ceil((n + 1)(1 - alpha)) / n quantile."""
    scores = np.arange(1, 100) / 100  # n = 99
    assert conformal_limit(scores, 0.9) == pytest.approx(0.90)
    assert conformal_limit(scores[:8], 0.9) is None
    assert conformal_limit(scores[:9], 0.9) == pytest.approx(0.09)


def test_scores_of_a_worked_example() -> None:
    row = np.array([[0.2, 0.5, 0.3]], np.float32)
    assert set_scores(row, "lac")[0] == pytest.approx([0.8, 0.5, 0.7])
    # Before a come b and c, before c comes b; places beyond the first add 0.1 each.
    assert set_scores(row, "raps", 0.1, 1)[0] == pytest.approx([1.0, 0.0, 0.6])


def test_named_class_is_always_in_its_set() -> None:
    sets = PredictionSets(method="lac", coverage=0.5, limits=(0.1,))
    policy = DecisionPolicy.default(ABC).model_copy(update={"sets": sets})
    answer = decide("x", np.array([0.3, 0.4, 0.3], np.float32), ABC, policy)
    assert answer.prediction_set == ("b",)
    wide = policy.model_copy(update={"sets": sets.model_copy(update={"limits": (0.65,)})})
    row = np.array([0.36, 0.25, 0.39], np.float32)
    assert decide("x", row, ABC, wide).prediction_set == ("c", "a")


def test_rare_class_takes_the_limit_of_all_and_is_named() -> None:
    part = sampled_abc(120)
    targets = np.where(part.targets == 2, 0, part.targets)
    targets[:3] = 2
    fit = fitted(part_of(part.logits, targets, ABC), set_coverage=0.9, set_per_class=True)
    assert any(note.startswith("'c': fewer than 9") for note in fit.notes)
    few = fitted(part_of(part.logits[:5], targets[:5], ABC), set_coverage=0.9)
    assert few.policy.sets is None
    assert any("needs 9 pictures" in note for note in few.notes)


# Scope


def clouds(count: int, *, seed: int, angle: float = 0.0) -> tuple[FLOATS, INTS]:
    """Features of three classes as clouds in three directions of space; a fourth at an angle."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, count)
    centres = np.eye(16)[:3] * 6
    features = centres[targets] + rng.normal(size=(count, 16)) * 0.7
    if angle:
        features = np.eye(16)[8] * 6 + rng.normal(size=(count, 16)) * 0.7
    return features.astype(np.float32), targets.astype(np.int64)


@pytest.mark.parametrize("method", ["energy", "nearest", "both", "auto"])
def test_pictures_of_something_else_score_lower(method: str) -> None:
    features, targets = clouds(200, seed=0)
    bank, bank_targets = clouds(150, seed=1)
    evidence = ScopeEvidence(features, bank, bank_targets)
    part = part_of(features[:, :3], targets, ABC)
    config = PLAIN.model_copy(update={"out_of_scope": method, "in_scope_share": 0.95})
    fit = fit_scope(part, evidence, config)
    assert fit.scope is not None
    assert (fit.bank is None) == (fit.scope.method == "energy")
    new, _ = clouds(2000, seed=2)
    other, _ = clouds(500, seed=3, angle=1.0)
    kept = scope_scores(new[:, :3], new, fit.bank, fit.scope, "multiclass") >= fit.scope.limit
    flagged = scope_scores(other[:, :3], other, fit.bank, fit.scope, "multiclass") < fit.scope.limit
    assert kept.mean() == pytest.approx(0.95, abs=0.035)
    assert flagged.mean() > 0.95


def test_left_out_classes_tell_the_methods_apart() -> None:
    features, targets = clouds(200, seed=0)
    bank, bank_targets = clouds(150, seed=1)
    part = part_of(features[:, :3], targets, ABC)
    found = np.array(list(leave_class_out(part, ScopeEvidence(features, bank, bank_targets))))
    assert found.shape == (3, 3) and (found > 0.9).all()
    # Features that say nothing of the class: no method can tell what was left out.
    noise = np.random.default_rng(0).normal(size=features.shape).astype(np.float32)
    blind = ScopeEvidence(noise, noise[:150], bank_targets)
    assert np.abs(np.array(list(leave_class_out(part, blind))).mean() - 0.5) < 0.25


def test_few_pictures_flag_nothing_and_say_so() -> None:
    features, targets = clouds(10, seed=0)
    evidence = ScopeEvidence(features, features, targets)
    part = part_of(features[:, :3], targets, ABC)
    for known in (evidence, None):
        fit = fit_scope(part, known, DecisionConfig())
        assert fit.scope is None and "at least 20" in fit.notes[0]
    many, _ = clouds(50, seed=0)
    fit = fit_scope(part_of(many[:, :3], np.zeros(50, np.int64), ABC), None, DecisionConfig())
    assert fit.scope is None and "no training picture" in fit.notes[0]


def test_score_that_is_the_same_everywhere_flags_nothing() -> None:
    features, targets = clouds(60, seed=0)
    flat = np.ones_like(features)
    fit = fit_scope(
        part_of(np.zeros((60, 3)), targets, ABC),
        ScopeEvidence(flat, flat, targets),
        DecisionConfig(out_of_scope="both"),
    )
    assert fit.scope is None and "the same for all pictures" in fit.notes[0]


def test_classes_without_a_picture_in_the_bank_are_counted() -> None:
    features, targets = clouds(100, seed=0)
    rows = targets != 2
    evidence = ScopeEvidence(features, features[rows], targets[rows])
    config = PLAIN.model_copy(update={"out_of_scope": "nearest", "in_scope_share": 0.999})
    fit = fit_scope(part_of(features[:, :3], targets, ABC), evidence, config)
    assert any("1 classes have no picture" in note for note in fit.notes)
    assert any("asked for: 0.1%" in note for note in fit.notes)


def test_flagged_picture_is_not_named() -> None:
    features, targets = clouds(100, seed=0)
    evidence = ScopeEvidence(features, features, targets)
    config = PLAIN.model_copy(update={"out_of_scope": "energy"})
    fit = fit_policy(part_of(features[:, :3], targets, ABC), config, evidence=evidence)
    assert fit.policy.scope is not None
    row = np.array([0.9, 0.05, 0.05], np.float32)
    limit = fit.policy.scope.limit
    assert decide("x", row, ABC, fit.policy, scope=limit + 1e-3).label == "a"
    answer = decide("x", row, ABC, fit.policy, scope=limit - 1e-3)
    assert answer.out_of_scope and answer.label is None and not answer.labels
    assert answer.confidence is None and answer.top[0].label == "a"

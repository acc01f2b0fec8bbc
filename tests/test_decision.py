"""Decisions: calibration of logits, what is said of a picture, and how the policy is fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.special import expit, log_softmax, softmax

from taxon.core.labels import LabelSpace
from taxon.core.predictions import PredictionTable
from taxon.decision import DecisionPolicy, calibrate, decide
from taxon.decision.fit import MINIMUM_POSITIVES, best_f1_threshold, fit_policy

ABC = LabelSpace.flat("multiclass", ["a", "b", "c"])
TAGS = LabelSpace.flat("multilabel", ["a", "b", "c"])
FRUIT = LabelSpace.taxonomy(
    [("Fruit", "Apple"), ("Fruit", "Mango"), ("Fruit", "Pear"), ("Tool", "Saw"), ("Tool", "Axe")]
)
FLOATS = npt.NDArray[np.float32]

logits_of_three = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(-80, 80, width=32)
)


def _policy(space: LabelSpace, **changes: object) -> DecisionPolicy:
    return DecisionPolicy.default(space).model_copy(update=changes)


def _row(*values: float) -> FLOATS:
    return np.array(values, np.float32)


# Calibration


@given(logits_of_three)
@settings(max_examples=50, deadline=None)
def test_default_policy_is_softmax_or_sigmoid(logits: FLOATS) -> None:
    policy = DecisionPolicy.default(ABC)
    exact = logits.astype(np.float64)
    one = calibrate(logits, policy, "multiclass")
    several = calibrate(logits, policy, "multilabel")
    assert one.dtype == several.dtype == np.float32
    np.testing.assert_allclose(one, softmax(exact, axis=1), atol=1e-6)
    np.testing.assert_allclose(several, expit(exact), atol=1e-6)


@given(logits_of_three)
@settings(max_examples=50, deadline=None)
def test_scale_and_bias_are_applied_to_each_class(logits: FLOATS) -> None:
    scale, bias = (0.5, 2.0, 1.0), (0.0, -1.0, 3.0)
    policy = _policy(ABC, scale=scale, bias=bias)
    changed = logits.astype(np.float64) * scale + bias
    np.testing.assert_allclose(
        calibrate(logits, policy, "multiclass"), softmax(changed, axis=1), atol=1e-6
    )
    np.testing.assert_allclose(calibrate(logits, policy, "multilabel"), expit(changed), atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_extreme_logits_do_not_overflow(task: str) -> None:
    logits = np.array([[1e30, -1e30, 0.0], [-3e38, -3e38, -3e38], [3e38, 3e38, 3e38]], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        probabilities = calibrate(logits, DecisionPolicy.default(ABC), task)  # type: ignore[arg-type]
    assert np.isfinite(probabilities).all()
    assert probabilities[0].tolist() == [1, 0, 0 if task == "multiclass" else 0.5]
    if task == "multiclass":
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_temperature_is_known_only_where_all_classes_share_it() -> None:
    assert DecisionPolicy.default(ABC).temperature == 1
    assert _policy(ABC, scale=(0.5,) * 3).temperature == 2
    assert _policy(ABC, scale=(0.5, 0.5, 1.0)).temperature is None
    assert _policy(ABC, bias=(0.0, 0.0, 0.1)).temperature is None


def test_policy_survives_json_and_refuses_unknown_keys() -> None:
    policy = _policy(TAGS, thresholds=(0.1, 0.2, 0.3), abstain_below=0.4, fitted_on="calibration")
    assert DecisionPolicy.model_validate_json(policy.model_dump_json()) == policy
    with pytest.raises(ValidationError):
        DecisionPolicy.model_validate(policy.model_dump() | {"threshold": 1})


# The answer


def test_most_probable_class_is_the_label() -> None:
    answer = decide("x.png", _row(0.2, 0.5, 0.3), ABC, DecisionPolicy.default(ABC))
    assert (answer.path, answer.label, answer.labels) == ("x.png", "b", ("b",))
    assert answer.confidence == pytest.approx(0.5)
    assert [scored.label for scored in answer.top] == ["b", "c", "a"]
    assert not answer.unsure
    assert answer.taxonomy == ()
    assert answer.error is None


@pytest.mark.parametrize("top", [1, 2, 3, 10])
def test_top_lists_as_many_as_asked_for(top: int) -> None:
    answer = decide("x", _row(0.2, 0.5, 0.3), ABC, DecisionPolicy.default(ABC), top=top)
    assert len(answer.top) == min(top, 3)


@pytest.mark.parametrize("space", [ABC, TAGS])
def test_equal_probabilities_keep_the_order_of_the_classes(space: LabelSpace) -> None:
    answer = decide("x", _row(0.25, 0.5, 0.5), space, DecisionPolicy.default(space))
    assert [scored.label for scored in answer.top] == ["b", "c", "a"]
    many = LabelSpace.flat("multiclass", [f"{position:03d}" for position in range(200)])
    tied = np.resize(_row(0.004, 0.006, 0.005), 200)
    answer = decide("x", tied, many, DecisionPolicy.default(many), top=200)
    expected = sorted(range(200), key=lambda position: (-tied[position], position))
    assert [scored.label for scored in answer.top] == [many.names[n] for n in expected]


@pytest.mark.parametrize(
    ("limit", "unsure"), [(0.0, False), (0.5, False), (0.51, True), (1.0, True)]
)
def test_answer_below_the_limit_is_unsure(limit: float, unsure: bool) -> None:
    answer = decide("x", _row(0.25, 0.5, 0.25), ABC, _policy(ABC, abstain_below=limit))
    assert answer.unsure is unsure
    assert answer.label == "b"


def test_tags_from_their_thresholds_on_are_named() -> None:
    policy = _policy(TAGS, thresholds=(0.75, 0.25, 0.5))
    answer = decide("x", _row(0.7, 0.25, 0.9), TAGS, policy)
    assert answer.labels == ("b", "c")
    assert answer.label is None
    assert answer.confidence == pytest.approx(0.3 * 0.25 * 0.9)  # every yes and no is right


def test_no_tag_may_be_the_answer() -> None:
    answer = decide("x", _row(0.1, 0.2, 0.3), TAGS, DecisionPolicy.default(TAGS))
    assert answer.labels == ()


# Names in order: Fruit/Apple, Fruit/Mango, Fruit/Pear, Tool/Axe, Tool/Saw


@pytest.mark.parametrize(
    ("probabilities", "path"),
    [
        ((0.1, 0.7, 0.1, 0.1, 0.0), ("Fruit", "Fruit/Mango")),
        ((0.3, 0.4, 0.1, 0.1, 0.1), ("Fruit",)),
        # The best class is a tool, but the picture is rather a fruit.
        ((0.2, 0.2, 0.2, 0.0, 0.4), ("Fruit",)),
        ((0.1, 0.1, 0.2, 0.3, 0.3), ("Tool",)),
    ],
)
def test_taxonomy_stops_at_the_deepest_confident_node(
    probabilities: tuple[float, ...], path: tuple[str, ...]
) -> None:
    answer = decide("x", _row(*probabilities), FRUIT, DecisionPolicy.default(FRUIT))
    assert answer.taxonomy == path


def test_taxonomy_says_nothing_where_no_node_is_confident() -> None:
    policy = _policy(FRUIT, taxonomy_confidence=0.8)
    assert decide("x", _row(0.2, 0.2, 0.1, 0.3, 0.2), FRUIT, policy).taxonomy == ()


def test_class_that_ends_early_is_the_end_of_its_path() -> None:
    space = LabelSpace.taxonomy([("Fruit", "Apple", "Red"), ("Fruit", "Apple", "Green"), ("Tool",)])
    answer = decide("x", _row(0.1, 0.1, 0.8), space, DecisionPolicy.default(space))
    assert answer.taxonomy == ("Tool",)


@given(hnp.arrays(np.float64, 5, elements=st.floats(-5, 5)).map(softmax), st.floats(0.5001, 1.0))
@settings(max_examples=100, deadline=None)
def test_no_child_outranks_its_parent(probabilities: FLOATS, confidence: float) -> None:
    policy = _policy(FRUIT, taxonomy_confidence=confidence)
    row = probabilities.astype(np.float32)
    path = decide("x", row, FRUIT, policy).taxonomy
    sums = [
        sum(float(p) for name, p in zip(FRUIT.names, row, strict=True) if node in FRUIT.path(name))
        for node in path
    ]
    assert sums == sorted(sums, reverse=True)
    assert all(total >= confidence - 1e-6 for total in sums)
    assert path == FRUIT.path(path[-1]) if path else True


# Fitting


def _table(logits: npt.NDArray[np.floating], names: tuple[str, ...]) -> PredictionTable:
    ids = tuple(str(row) for row in range(len(logits)))
    values = np.asarray(logits, np.float32)
    return PredictionTable(ids, names, values, np.zeros_like(values))


def _sampled(
    temperature: float, *, seed: int = 0, count: int = 6000
) -> tuple[PredictionTable, npt.NDArray[np.int64]]:
    """Logits, and targets that follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3)) * 3
    truth = softmax(logits / temperature, axis=1)
    targets = (rng.random((count, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    return _table(logits, ABC.names), np.minimum(targets, 2).astype(np.int64)


def _log_loss(table: PredictionTable, targets: npt.NDArray[np.int64], temperature: float) -> float:
    rows = log_softmax(table.logits.astype(np.float64) / temperature, axis=1)
    return -float(rows[np.arange(len(targets)), targets].mean())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_fit_recovers_the_temperature(temperature: float) -> None:
    table, targets = _sampled(temperature)
    fit = fit_policy(table, targets, ABC, "calibration")
    assert fit.policy.temperature == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_fit_lowers_the_log_loss_of_other_pictures(temperature: float) -> None:
    fit = fit_policy(*_sampled(temperature), ABC, "calibration")
    table, targets = _sampled(temperature, seed=1)
    assert fit.policy.temperature is not None
    assert _log_loss(table, targets, fit.policy.temperature) < _log_loss(table, targets, 1.0) - 0.01
    assert fit.policy.fitted_on == "calibration"
    assert "log loss" in fit.notes[0]


def test_fit_does_not_change_the_order_of_the_classes() -> None:
    table, targets = _sampled(3.0, count=300)
    fitted = calibrate(table.logits, fit_policy(table, targets, ABC, "x").policy, "multiclass")
    assert (fitted.argmax(axis=1) == table.logits.argmax(axis=1)).all()


def test_logits_without_information_do_not_break_the_fit() -> None:
    table = _table(np.zeros((10, 3)), ABC.names)
    fit = fit_policy(table, np.zeros(10, np.int64), ABC, "validation")
    assert fit.policy == DecisionPolicy.default(ABC)
    assert "did not lower" in fit.notes[0]


@pytest.mark.parametrize("space", [ABC, TAGS])
def test_no_pictures_give_the_default_policy_and_a_note(space: LabelSpace) -> None:
    shape = (0,) if space.task == "multiclass" else (0, 3)
    fit = fit_policy(_table(np.zeros((0, 3)), space.names), np.zeros(shape, np.int64), space, "x")
    assert fit.policy == DecisionPolicy.default(space)
    assert "no pictures" in fit.notes[0]


def _f1(truth: npt.NDArray[np.int64], named: npt.NDArray[np.bool_]) -> float:
    return 2 * float((truth * named).sum()) / float(truth.sum() + named.sum())


@st.composite
def _scored(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], FLOATS]:
    count = draw(st.integers(1, 25))
    # Few distinct values among the scores: ties must happen.
    few = st.sampled_from([0.0, 0.25, 0.5, 0.75, float(np.float32(0.99999994)), 1.0])
    scores = st.one_of(few, st.floats(0, 1, width=32))
    truth = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 1)))
    truth[draw(st.integers(0, count - 1))] = 1
    return truth, draw(hnp.arrays(np.float32, count, elements=scores))


def _neighbours(value: float) -> tuple[npt.NDArray[np.int64], FLOATS]:
    below = np.nextafter(np.float32(value), np.float32(0))
    return np.array([1, 0]), np.array([value, below], np.float32)


@given(_scored())
@example(_neighbours(0.5))
@example(_neighbours(np.nextafter(np.float32(0.5), np.float32(1))))
@example(_neighbours(np.nextafter(np.float32(1), np.float32(0))))
@settings(max_examples=200, deadline=None)
def test_f1_threshold_is_as_good_as_the_best_of_all(
    scored: tuple[npt.NDArray[np.int64], FLOATS],
) -> None:
    truth, scores = scored
    found = best_f1_threshold(truth, scores)
    best = max(_f1(truth, scores >= threshold) for threshold in scores)
    # As `decide` names a tag: in float32.
    assert _f1(truth, scores >= np.float32(found)) == pytest.approx(best)
    assert 0 <= found <= 1


def test_f1_threshold_lies_midway_between_the_scores() -> None:
    truth = np.array([1, 1, 0, 0])
    assert best_f1_threshold(truth, _row(0.75, 0.5, 0.25, 0.125)) == pytest.approx(0.375)


def _tags(
    positives: dict[str, int], count: int = 40
) -> tuple[PredictionTable, npt.NDArray[np.int64]]:
    """The first `positives[tag]` pictures hold a tag; their logits are about -2, the others' -4."""
    targets = np.array(
        [[int(row < positives[tag]) for tag in TAGS.names] for row in range(count)], np.int64
    )
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, targets.shape)
    return _table(targets * 2.0 - 4 + noise, TAGS.names), targets


def test_thresholds_are_fitted_for_each_tag() -> None:
    table, targets = _tags({"a": 10, "b": 20, "c": 5})
    fit = fit_policy(table, targets, TAGS, "calibration")
    probabilities = calibrate(table.logits, fit.policy, "multilabel")
    for probability, target in zip(probabilities, targets, strict=True):
        named = decide("x", probability, TAGS, fit.policy).labels
        assert named == tuple(np.array(TAGS.names)[target == 1])
    assert fit.policy.temperature == 1
    assert fit.notes == ("thresholds by F1 on calibration",)


@pytest.mark.parametrize("positives", [0, MINIMUM_POSITIVES - 1, 40])
def test_tag_too_rare_or_everywhere_keeps_its_threshold_and_is_named(positives: int) -> None:
    table, targets = _tags({"a": 10, "b": positives, "c": 10})
    fit = fit_policy(table, targets, TAGS, "validation")
    assert fit.policy.thresholds[1] == 0.5
    assert fit.policy.thresholds[0] < 0.2
    assert f"'b' has {positives} of 40 in validation: threshold 0.5" in fit.notes
    assert len(fit.notes) == 2

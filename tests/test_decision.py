"""Decisions: calibration of logits, what is said of a picture, and how the policy is fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.special import expit, softmax

from taxon.core.labels import LabelSpace
from taxon.decision import DecisionPolicy, calibrate, decide

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

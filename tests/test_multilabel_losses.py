"""Losses of several labels: the asymmetric one, and entries that nobody annotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import write_folders, write_table

import taxon
from taxon.config import AugmentConfig, ImbalanceConfig, LossConfig, load_config, require_loss_fits
from taxon.core.errors import ConfigError
from taxon.core.labels import LabelSpace
from taxon.data import Columns
from taxon.data.imbalance import choose, positive_weights
from taxon.training.losses import build_loss
from taxon.training.mixing import mix

FLOATS = npt.NDArray[np.float64]
PLAIN = LossConfig()
ASYMMETRIC = LossConfig(multilabel="asymmetric")
COUNTS = {"a": 30, "b": 5, "c": 60}
property_test = settings(max_examples=80, deadline=None)

logits_of_three = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-30, 30, width=32)
)


def _tags(count: int) -> LabelSpace:
    return LabelSpace.flat("multilabel", [f"{position:03}" for position in range(count)])


def _values(
    logits: npt.NDArray[Any], targets: npt.NDArray[Any], config: LossConfig, *strategies: Any
) -> torch.Tensor:
    plan = None
    if strategies:
        chosen = ImbalanceConfig(strategy=strategies)
        plan = choose(chosen, COUNTS, "multilabel", pictures=100)
    loss = build_loss(_tags(logits.shape[1]), plan, config)
    values = loss(torch.from_numpy(logits), torch.from_numpy(targets))
    assert values.shape == (len(logits),)
    return values


def _reference(logits: npt.NDArray[Any], targets: FLOATS, positive: float, negative: float,
               clip: float) -> FLOATS:  # fmt: skip
    """Ridnik et al. (2021), equations 4 to 6, as they stand, in float64."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    shifted = np.maximum(p - clip, 0)
    gain = targets * (1 - p) ** positive * np.log(p)
    gain += (1 - targets) * shifted**negative * np.log1p(-shifted)
    return np.asarray(-gain.mean(axis=1))


@given(
    logits_of_three,
    st.floats(0, 6),
    st.floats(0, 6),
    st.one_of(st.just(0.0), st.floats(0.001, 0.5)),
    st.integers(0, 10**6),
)
@property_test
def test_asymmetric_loss_equals_its_formula(
    logits: npt.NDArray[np.float32], positive: float, negative: float, clip: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    config = LossConfig(
        multilabel="asymmetric", gamma_positive=positive, gamma_negative=negative, clip=clip
    )
    hard = rng.integers(0, 2, logits.shape)
    soft = rng.random(logits.shape).astype(np.float32)
    for targets in (hard, soft):
        expected = _reference(logits, targets.astype(np.float64), positive, negative, clip)
        found = _values(logits, targets, config).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1e-9, 0.05])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
def test_asymmetric_loss_and_its_slope_are_finite_however_sure_the_answer(
    clip: float, gamma: float
) -> None:
    config = LossConfig(
        multilabel="asymmetric", gamma_positive=gamma, gamma_negative=gamma, clip=clip
    )
    logits = torch.tensor([[-300.0, -20.0, -3.0, 0.0, 3.0, 20.0, 300.0]], requires_grad=True)
    for target in (0, 1):
        values = build_loss(_tags(7), None, config)(logits, torch.full((1, 7), target))
        (slope,) = torch.autograd.grad(values.sum(), logits)
        assert torch.isfinite(values).all() and torch.isfinite(slope).all()


def test_negatives_below_the_clip_count_nothing_and_have_no_slope() -> None:
    logits = torch.tensor([[-3.0, -4.0, -9.0]], requires_grad=True)  # at most 0.0474
    values = build_loss(_tags(3), None, ASYMMETRIC)(logits, torch.zeros(1, 3))
    values.sum().backward()
    assert values.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_asymmetric_loss_of_gammas_0_is_cross_entropy() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * 4
    targets = np.random.default_rng(1).integers(0, 2, (20, 3))
    same = LossConfig(multilabel="asymmetric", gamma_positive=0, gamma_negative=0, clip=0)
    assert torch.equal(_values(logits, targets, same), _values(logits, targets, PLAIN))


def test_positive_weights_hold_for_the_asymmetric_loss_too() -> None:
    logits = np.zeros((1, 3), np.float32)
    plan = choose(ImbalanceConfig(strategy=("class-weights",)), COUNTS, "multilabel", pictures=100)
    yes, no = np.ones((1, 3)), np.zeros((1, 3))
    plain = _values(logits, yes, ASYMMETRIC)
    weighted = _values(logits, yes, ASYMMETRIC, "class-weights")
    assert weighted.item() == pytest.approx(plain.item() * positive_weights(plan).mean())
    assert torch.equal(_values(logits, no, ASYMMETRIC, "class-weights"),
                       _values(logits, no, ASYMMETRIC))  # fmt: skip


losses = st.sampled_from([(PLAIN, "none"), (PLAIN, "focal"), (ASYMMETRIC, "none")])


@given(logits_of_three, losses, st.integers(0, 10**6))
@property_test
def test_unknown_entry_counts_as_if_its_class_were_absent_from_the_row(
    logits: npt.NDArray[np.float32], loss: tuple[LossConfig, Any], seed: int
) -> None:
    config, strategy = loss
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, logits.shape)
    found = _values(logits, targets, config, strategy)
    for row, value in enumerate(found):
        known = targets[row] >= 0
        if known.any():
            here = np.ix_([row], known)
            alone = _values(logits[here], targets[here], config, strategy)
            torch.testing.assert_close(value, alone[0], rtol=1e-5, atol=1e-7)
        else:
            assert value == 0
    # What stands at an unknown entry, however wrong, changes no value and has no slope.
    other = np.where(targets < 0, 25 * rng.normal(size=logits.shape), logits).astype(np.float32)
    assert torch.equal(_values(other, targets, config, strategy), found)
    free = torch.from_numpy(logits).requires_grad_()
    build_loss(_tags(3), None, config)(free, torch.from_numpy(targets)).sum().backward()
    assert free.grad is not None and not free.grad[torch.from_numpy(targets) < 0].any()


def test_positive_weights_count_known_negatives_alone() -> None:
    config = ImbalanceConfig(strategy=("class-weights",))
    known = {"a": 90, "b": 10, "c": 100}
    plan = choose(config, COUNTS, "multilabel", pictures=100, known=known)
    np.testing.assert_array_equal(plan.negatives, [60, 5, 40])
    np.testing.assert_allclose(positive_weights(plan), [60 / 30, 5 / 5, 40 / 60])


@given(st.integers(2, 6), st.booleans(), st.integers(0, 10**6))
@property_test
def test_blended_target_is_unknown_where_it_is_of_either_picture(
    count: int, cut: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(rng.integers(0, 2, (count, 4)))
    unknown = torch.from_numpy(rng.random((count, 4)) < 0.3)
    config = AugmentConfig(mixup=0.0 if cut else 1.0, cutmix=1.0 if cut else 0.0)
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)

    def mixed(wanted: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return mix(images, wanted, torch.ones(count), 4, config, generator, "multilabel")[1]

    # Which pictures go together shows where each is a class of its own.
    pairs = mixed(torch.eye(count, dtype=torch.int64)) > 0
    found, full = mixed(torch.where(unknown, -1, targets)), mixed(targets)
    for row, pair in enumerate(pairs):
        masked = unknown[pair].any(dim=0)
        if pair.sum() > 1:
            assert torch.equal(found[row] == -1, masked)
        assert (found[row][masked] == -1).all()
    assert torch.equal(found[found >= 0], full[found >= 0])


# What does not fit is refused


@pytest.mark.parametrize(
    ("loss", "task", "strategies", "said"),
    [
        (LossConfig(label_smoothing=0.1), "multilabel", (), "label_smoothing=0.1 is for one class"),
        (ASYMMETRIC, "multiclass", (), "asymmetric is for several tags a picture"),
        (ASYMMETRIC, "multilabel", ("focal",), "take one of the two"),
    ],
)
def test_loss_that_does_not_fit_is_refused(
    loss: LossConfig, task: Any, strategies: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        require_loss_fits(loss, task, strategies)


@pytest.mark.parametrize("recipe", ["staged", "scratch"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_loss_of_a_recipe_fits_both_tasks(recipe: str, task: Any) -> None:
    loss = load_config(recipe).loss
    require_loss_fits(loss, task, ("auto",), of_recipe=loss)


@pytest.mark.parametrize("option", ["gamma_positive=1", "gamma_negative=2", "clip=0.1"])
def test_strength_of_a_loss_that_is_not_on_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="belongs to the asymmetric loss"):
        load_config("staged", overrides=[f"loss.{option}"])
    asked = ["loss.multilabel=asymmetric", f"loss.{option}"]
    loss = load_config("staged", overrides=asked).loss
    assert LossConfig.model_validate(loss.model_dump()) == loss


@pytest.mark.parametrize(
    ("several", "override", "said"),
    [(True, "loss.label_smoothing=0.2", "label_smoothing"), (False, "loss.multilabel=asymmetric",
                                                              "several tags")],
)  # fmt: skip
def test_loss_is_refused_before_pictures_are_read(
    tmp_path: Path, several: bool, override: str, said: str
) -> None:
    data, columns = write_folders(tmp_path / "data", {"a": 2, "b": 2}), None
    if several:
        rows = [(f"{name}.png", *flags) for name, *flags in ("x01", "y10", "z11")]
        data = write_table(tmp_path / "t.csv", ("path", "sea", "sun"), rows, pictures=False)
        columns = Columns(tags=("sea", "sun"))
    heard: list[Any] = []
    with pytest.raises(ConfigError, match=said):
        taxon.train(
            data,
            out=tmp_path / "run",
            weights="none",
            columns=columns,
            overrides=[override],
            listener=heard.append,
        )
    assert not any("pictures" in str(event) for event in heard)

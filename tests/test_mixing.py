"""Mixup and cutmix: pictures and targets in the same proportion, by the generator alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taxon.config import AugmentConfig
from taxon.core.labels import Task
from taxon.training.mixing import mix

MIXUP, CUTMIX = AugmentConfig(mixup=1.0), AugmentConfig(cutmix=1.0)
alphas = st.one_of(st.just(0.0), st.floats(1e-6, 10))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _own_levels(count: int, height: int = 8, width: int = 10) -> torch.Tensor:
    """Pictures of one level each, which is their number from 1."""
    levels = torch.arange(1, count + 1, dtype=torch.float32)
    return levels.view(count, 1, 1, 1).expand(count, 3, height, width).clone()


@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    alphas,
    alphas,
    st.sampled_from(["multiclass", "multilabel"]),
    st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_targets_are_mixed_in_the_proportion_of_the_pixels(
    count: int, height: int, width: int, mixup: float, cutmix: float, task: Task, seed: int
) -> None:
    # Each picture is its own class and its own channel, so that the mean of a channel tells how
    # much of that picture is in it.
    images = torch.eye(count).view(count, count, 1, 1).expand(count, count, height, width)
    targets = torch.arange(count) if task == "multiclass" else torch.eye(count, dtype=torch.int64)
    config = AugmentConfig(mixup=mixup, cutmix=cutmix)
    mixed, soft, _ = mix(images, targets, torch.ones(count), count, config, _generator(seed), task)
    assert mixed.shape == images.shape
    assert soft.shape == (count, count)
    assert soft.dtype == torch.float32
    assert soft.min() >= 0 and soft.max() <= 1
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(count))
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), soft, atol=1e-4, rtol=0)


def test_multilabel_targets_keep_their_classes() -> None:
    targets = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
    for seed in range(10):
        _, soft, _ = mix(
            _own_levels(2), targets, torch.ones(2), 4, MIXUP, _generator(seed), "multilabel"
        )
        torch.testing.assert_close(soft[:, 1], torch.ones(2))
        assert (soft[:, [0, 2, 3]] <= 1).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_nothing_is_mixed_when_both_are_off(task: Task) -> None:
    images = _own_levels(3)
    rows = torch.tensor([[1, 0], [0, 1], [1, 0]])
    targets = rows.argmax(dim=1) if task == "multiclass" else rows
    mixed, soft, _ = mix(images, targets, torch.ones(2), 2, AugmentConfig(), _generator(0), task)
    assert torch.equal(mixed, images)
    assert torch.equal(soft, rows.float())


@pytest.mark.parametrize("config", [MIXUP, CUTMIX])
def test_same_generator_gives_the_same_mix_and_the_input_stays(config: AugmentConfig) -> None:
    images = _own_levels(6)
    first = mix(images, torch.arange(6), torch.ones(6), 6, config, _generator(4), "multiclass")
    again = mix(images, torch.arange(6), torch.ones(6), 6, config, _generator(4), "multiclass")
    other = mix(images, torch.arange(6), torch.ones(6), 6, config, _generator(5), "multiclass")
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(images, _own_levels(6))


def test_cutmix_puts_one_box_in() -> None:
    boxes = 0
    for seed in range(20):
        images = _own_levels(2)
        mixed, _, _ = mix(
            images, torch.arange(2), torch.ones(2), 2, CUTMIX, _generator(seed), "multiclass"
        )
        inside = mixed[0, 0] != images[0, 0]
        assert set(mixed[0].unique().tolist()) <= {1.0, 2.0}
        if inside.any():
            rows, columns = inside.any(dim=1), inside.any(dim=0)
            assert inside.sum() == rows.sum() * columns.sum()
            boxes += 1
    assert boxes > 3


def test_with_both_on_each_is_taken_about_half_of_the_time() -> None:
    config = AugmentConfig(mixup=1.0, cutmix=1.0)
    blended = 0
    for seed in range(200):
        images = _own_levels(8)
        mixed, _, _ = mix(
            images, torch.arange(8), torch.ones(8), 8, config, _generator(seed), "multiclass"
        )
        blended += int((mixed != mixed.round()).any())
    assert 70 < blended < 130


@pytest.mark.parametrize("config", [MIXUP, CUTMIX])
def test_a_picture_that_hardly_counts_does_not_come_in_through_its_partner(
    config: AugmentConfig,
) -> None:
    weights = torch.tensor([1.0, 0.01] * 8)
    targets = torch.tensor([0, 1] * 8)
    total = torch.zeros(2)
    for seed in range(50):
        images = _own_levels(16)
        _, soft, mixed = mix(images, targets, weights, 2, config, _generator(seed), "multiclass")
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(16))
        total += (soft * mixed[:, None]).sum(dim=0)
    assert float(total[1] / total[0]) == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("config", [MIXUP, CUTMIX])
def test_the_loss_of_a_mixed_picture_is_that_of_both_by_share_and_weight(
    config: AugmentConfig,
) -> None:
    weights, targets = torch.tensor([1.0, 3.0, 0.2]), torch.tensor([0, 1, 2])
    log_p = torch.randn(3, generator=_generator(1)).log_softmax(dim=0)
    even = mix(_own_levels(3), targets, torch.ones(3), 3, config, _generator(7), "multiclass")[1]
    _, soft, mixed = mix(_own_levels(3), targets, weights, 3, config, _generator(7), "multiclass")
    torch.testing.assert_close(mixed * (soft @ -log_p), (even * weights) @ -log_p)

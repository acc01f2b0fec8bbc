"""Imbalance: what goes together, what is drawn, what the losses are, what ends in the policy."""

from __future__ import annotations

import json
import pickle
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
import yaml
from conftest import TINY_BACKBONE
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import pattern
from PIL import Image
from scipy.special import softmax
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

import taxon
from taxon.api.choosing import choose_plan
from taxon.api.classifier import Trained, train_classifier
from taxon.api.starting import choose_start
from taxon.bundle import read_bundle
from taxon.config import DecisionConfig, ImbalanceConfig, ImbalanceStrategy, LossConfig, load_config
from taxon.core.errors import ConfigError, MissingDependencyError
from taxon.core.labels import LabelSpace, Task
from taxon.core.predictions import PredictionTable
from taxon.data import Manifest, load_manifest
from taxon.data.imbalance import (
    COMPENSATORS,
    ImbalancePlan,
    advise,
    choose,
    class_weights,
    logit_adjustment,
    positive_weights,
)
from taxon.data.loading.rare_augmentation import (
    AlbumentationsPipeline,
    build_rare_augmentation,
    vary,
    with_pipeline,
)
from taxon.data.loading.sampling import EpochPlan, plan_epoch
from taxon.data.splitting.splits import ensure_split
from taxon.decision import calibrate
from taxon.decision.fit import fit_policy
from taxon.decision.fitting.part import CalibrationPart
from taxon.preprocessing import prepare
from taxon.training import Event, Note, StageStarted, silent
from taxon.training.losses import build_loss

STRATEGIES: tuple[ImbalanceStrategy, ...] = get_args(ImbalanceStrategy)
COUNTS = {"free": 231, "blowhole": 81, "fray": 23}
FLOATS = npt.NDArray[np.float64]

class_counts = st.lists(st.integers(1, 60), min_size=2, max_size=5)


def _plan(
    *strategy: ImbalanceStrategy,
    counts: dict[str, int] = COUNTS,
    task: Task = "multiclass",
    pictures: int | None = None,
    **changes: Any,
) -> ImbalancePlan:
    config = ImbalanceConfig(strategy=strategy, **changes)
    return choose(config, counts, task, pictures=pictures or sum(counts.values()))


# What goes together


@pytest.mark.parametrize("pair", list(product(STRATEGIES, STRATEGIES)))
def test_pairs_that_compensate_twice_are_refused_with_the_reason(
    pair: tuple[ImbalanceStrategy, ImbalanceStrategy],
) -> None:
    first, second = pair
    alone = {"auto", "none"} & set(pair)
    twice = first in COMPENSATORS and second in COMPENSATORS
    shifted_focal = "focal" in pair and {"balanced-softmax", "logit-adjust"} & set(pair)
    if first == second or not (alone or twice or shifted_focal):
        assert _plan(*pair).strategies == _plan(*dict.fromkeys(pair)).strategies
        assert "auto" not in _plan(*pair).strategies
        return
    reason = "stands alone" if alone else "compensate twice" if twice else "no probabilities"
    with pytest.raises(ConfigError, match=reason):
        _plan(*pair)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_of_a_softmax_are_refused_for_several_labels(
    strategy: ImbalanceStrategy,
) -> None:
    if strategy in ("balanced-softmax", "logit-adjust"):
        with pytest.raises(ConfigError, match="its own threshold"):
            _plan(strategy, task="multilabel")
    else:
        assert _plan(strategy, task="multilabel").strategies


def test_auto_says_why() -> None:
    balanced = _plan("auto", counts={"a": 13, "b": 10})
    assert balanced.strategies == ("none",)
    assert balanced.sentence() == (
        "imbalance: none (by auto: 'a' has 1.3 times the pictures of 'b', 13 and 10)"
    )
    skewed = _plan("auto")
    assert skewed.strategies != ("none",)
    assert "'free' has 10 times the pictures of 'fray', 231 and 23" in skewed.sentence()
    assert "threshold" in _plan("auto", task="multilabel").sentence()


@given(class_counts, st.sampled_from(["multiclass", "multilabel"]))
@settings(max_examples=30, deadline=None)
def test_advice_is_what_auto_does(counts: list[int], task: Task) -> None:
    named = {str(position): count for position, count in enumerate(counts)}
    (strategy,) = _plan("auto", counts=named, task=task).strategies
    assert f"'{strategy}'" in advise(named, task)


def test_configuration_takes_names_joined_by_commas() -> None:
    assert ImbalanceConfig(strategy="focal, class-weights").strategy == ("focal", "class-weights")
    with pytest.raises(ConfigError, match="imbalance"):
        load_config("staged", overrides=["imbalance.strategy=smote"])


# Weights


@given(class_counts, st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_class_weights_follow_frequency_and_average_to_one(counts: list[int], power: float) -> None:
    named = {str(position): count for position, count in enumerate(counts)}
    weights = class_weights(_plan("class-weights", counts=named, weight_power=power))
    numbers = np.array(counts, float)
    assert (weights * numbers).sum() / numbers.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], (numbers / numbers[0]) ** -power)


def test_effective_number_of_pictures() -> None:
    weights = class_weights(_plan("class-weights", effective_number_beta=0.99))
    effective = {name: sum(0.99**k for k in range(count)) for name, count in COUNTS.items()}
    assert weights[0] / weights[2] == pytest.approx(effective["fray"] / effective["free"])


def test_positive_weights_are_bounded() -> None:
    counts = {"rare": 1, "half": 500, "usual": 999}
    plan = _plan("class-weights", counts=counts, task="multilabel", pictures=1000)
    np.testing.assert_allclose(positive_weights(plan), [10, 1, 0.1])


# Losses, against formulas of their own

LOGITS = np.random.default_rng(0).normal(size=(40, 3)) * 3
CLASSES = np.random.default_rng(1).integers(0, 3, 40)
TAGS = np.random.default_rng(2).integers(0, 2, (40, 3))


def _space(task: Task, classes: int) -> LabelSpace:
    return LabelSpace.flat(task, map(str, range(classes)))


def _loss(
    task: Task,
    plan: ImbalancePlan | None,
    targets: npt.NDArray[Any],
    config: LossConfig = LossConfig(),  # noqa: B008 (frozen)
) -> FLOATS:
    loss = build_loss(_space(task, 3), plan, config)
    values = loss(torch.tensor(LOGITS, dtype=torch.float32), torch.from_numpy(targets))
    assert values.shape == (40,)
    return np.asarray(values.numpy(), np.float64)


def _close(values: FLOATS, expected: FLOATS) -> None:
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)


# With both, torch weighs what smoothing gives to other classes by the weights of these; see below.
@pytest.mark.parametrize(("smoothing", "weighted"), [(0.0, False), (0.1, False), (0.0, True)])
def test_cross_entropy_equals_that_of_torch(smoothing: float, weighted: bool) -> None:
    plan = _plan("class-weights") if weighted else _plan("none")
    weight = torch.tensor(class_weights(plan)) if weighted else None
    expected = functional.cross_entropy(
        torch.tensor(LOGITS),
        torch.from_numpy(CLASSES),
        weight=weight,
        reduction="none",
        label_smoothing=smoothing,
    )
    config = LossConfig(label_smoothing=smoothing)
    _close(_loss("multiclass", plan, CLASSES, config=config), expected.numpy())


@pytest.mark.parametrize("strategy", ["none", "class-weights", "balanced-softmax", "logit-adjust"])
@pytest.mark.parametrize("counts", [(400, 4), (5000, 5000, 5000, 5)])
def test_label_smoothing_does_not_make_common_pictures_rare_ones(
    strategy: ImbalanceStrategy, counts: tuple[int, ...]
) -> None:
    """At the optimum of the loss each class answers itself, whatever smoothing gives to others."""
    classes = len(counts)
    plan = choose(
        ImbalanceConfig(strategy=(strategy,)),
        {str(name): count for name, count in enumerate(counts)},
        "multiclass",
        pictures=sum(counts),
    )
    loss = build_loss(_space("multiclass", classes), plan, LossConfig(label_smoothing=0.05))
    # Pictures that can be told apart perfectly: one row of free logits a class.
    logits = torch.zeros(classes, classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe")

    def total() -> torch.Tensor:
        optimiser.zero_grad()
        value = (loss(logits, torch.arange(classes)) * torch.tensor(counts) / sum(counts)).sum()
        value.backward()
        return value

    optimiser.step(total)
    answers = logits.detach().numpy()
    adjustment = logit_adjustment(plan)
    answers = answers if adjustment is None else answers + adjustment
    assert answers.argmax(axis=1).tolist() == list(range(classes))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_softmax_focal_loss(gamma: float) -> None:
    p = softmax(LOGITS, axis=1)[np.arange(40), CLASSES]
    plan = _plan("focal", focal_gamma=gamma)
    _close(_loss("multiclass", plan, CLASSES), -((1 - p) ** gamma) * np.log(p))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_loss_equals_that_of_torchvision(gamma: float) -> None:
    expected = sigmoid_focal_loss(
        torch.tensor(LOGITS), torch.tensor(TAGS, dtype=torch.float64), alpha=-1, gamma=gamma
    )
    plan = _plan("focal", task="multilabel", focal_gamma=gamma)
    _close(_loss("multilabel", plan, TAGS), expected.numpy().mean(axis=1))


@pytest.mark.parametrize(("task", "targets"), [("multiclass", CLASSES), ("multilabel", TAGS)])
def test_focal_loss_with_gamma_0_is_the_plain_loss(
    task: Task, targets: npt.NDArray[np.int64]
) -> None:
    plan = _plan("focal", task=task, focal_gamma=0.0)
    assert (_loss(task, plan, targets) == _loss(task, None, targets)).all()


def test_positive_weights_enter_as_in_torch() -> None:
    plan = _plan("class-weights", task="multilabel", pictures=400)
    expected = functional.binary_cross_entropy_with_logits(
        torch.tensor(LOGITS),
        torch.tensor(TAGS, dtype=torch.float64),
        pos_weight=torch.tensor(positive_weights(plan)),
        reduction="none",
    )
    _close(_loss("multilabel", plan, TAGS), expected.numpy().mean(axis=1))


def test_balanced_softmax() -> None:
    scores = np.exp(LOGITS) * np.array(list(COUNTS.values()))
    expected = -np.log(scores[np.arange(40), CLASSES] / scores.sum(axis=1))
    _close(_loss("multiclass", _plan("balanced-softmax"), CLASSES), expected)


def test_logit_adjustment_leaves_training_alone() -> None:
    plain = _loss("multiclass", None, CLASSES)
    assert (_loss("multiclass", _plan("logit-adjust"), CLASSES) == plain).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    "strategy",
    [("none",), ("focal",), ("class-weights",), ("focal", "class-weights"), ("balanced-softmax",)],
)
def test_blended_pictures_blend_their_losses(
    strategy: tuple[ImbalanceStrategy, ...], smoothing: float
) -> None:
    plan = _plan(*strategy)
    other = (CLASSES + 1) % 3
    soft = 0.3 * np.eye(3)[CLASSES] + 0.7 * np.eye(3)[other]
    config = LossConfig(label_smoothing=smoothing)
    both = [_loss("multiclass", plan, part, config=config) for part in (CLASSES, other)]
    blended = _loss("multiclass", plan, soft, config=config)
    _close(blended, 0.3 * both[0] + 0.7 * both[1])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1e-30, 20.0, 1e4, 1e30])
def test_losses_and_gradients_are_finite_at_extreme_logits(
    task: Task, gamma: float, size: float
) -> None:
    logits = torch.tensor([[size, -size, 0.0]] * 3, requires_grad=True)
    plan = _plan("focal", "class-weights", task=task, focal_gamma=gamma)
    targets = torch.tensor([0, 1, 2]) if task == "multiclass" else torch.eye(3)
    values = build_loss(_space(task, 3), plan)(logits, targets)
    values.sum().backward()
    assert torch.isfinite(values).all() and (values >= 0).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


# Sampling


def _classes(counts: list[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def _views(counts: list[int], plan: ImbalancePlan, epoch: int = 1) -> EpochPlan:
    return plan_epoch(_classes(counts), plan, seed=0, epoch=epoch)


def _named(counts: list[int]) -> dict[str, int]:
    return {str(position): count for position, count in enumerate(counts)}


@given(class_counts, st.sampled_from(["none", "focal", "weighted-sampler"]))
@settings(max_examples=50, deadline=None)
def test_plain_order_is_a_permutation(counts: list[int], strategy: ImbalanceStrategy) -> None:
    plan = _plan(strategy, counts=_named(counts), sampler_power=0.0)
    views = _views(counts, plan)
    assert sorted(views.positions) == list(range(sum(counts)))
    assert not views.extra.any()


@given(class_counts, st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_weighted_sampler_draws_classes_as_asked(counts: list[int], power: float) -> None:
    plan = _plan("weighted-sampler", counts=_named(counts), sampler_power=power)
    epochs = [_views(counts, plan, epoch) for epoch in range(40)]
    assert {len(views) for views in epochs} == {sum(counts)}
    wanted = np.array(counts, float) ** (1 - power)
    drawn = np.concatenate([_classes(counts)[views.positions] for views in epochs])
    shares = np.bincount(drawn, minlength=len(counts)) / len(drawn)
    # Systematic draws: in one epoch a picture is off by less than one.
    np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.12)
    due = counts[0] ** -power / wanted.sum() * sum(counts)
    times = Counter(epochs[0].positions.tolist())[0]
    assert abs(times - due) <= 1 + 1e-6


@given(class_counts, st.floats(0.05, 1))
@settings(max_examples=50, deadline=None)
def test_oversampling_lifts_rare_classes_by_extra_views(counts: list[int], share: float) -> None:
    plan = _plan("oversample", counts=_named(counts), oversample_share=share)
    views = _views(counts, plan)
    assert sorted(views.positions[~views.extra]) == list(range(sum(counts)))
    shown = np.bincount(_classes(counts)[views.positions], minlength=len(counts))
    expected = [max(count, round(share * max(counts))) for count in counts]
    assert np.abs(shown - expected).max() <= 1
    extra_classes = set(_classes(counts)[views.positions[views.extra]])
    assert all(counts[name] < share * max(counts) for name in extra_classes)
    # As evenly as can be: no picture of a class comes twice as often as another.
    for name in extra_classes:
        times = np.bincount(views.positions, minlength=sum(counts))[_classes(counts) == name]
        assert times.max() - times.min() <= 1


@pytest.mark.parametrize("strategy", ["none", "weighted-sampler", "oversample"])
def test_epochs_differ_and_repeat_by_seed(strategy: ImbalanceStrategy) -> None:
    counts = [30, 12, 4]
    plan = _plan(strategy, counts=_named(counts))
    first, again, second = (_views(counts, plan, epoch) for epoch in (1, 1, 2))
    assert (first.positions == again.positions).all() and (first.extra == again.extra).all()
    assert len(first) == len(second) and (first.positions != second.positions).any()


@st.composite
def tag_tables(draw: st.DrawFn) -> npt.NDArray[np.int64]:
    rows = draw(st.lists(st.tuples(*[st.booleans()] * 3), min_size=2, max_size=40))
    return np.array(rows, np.int64)


@given(tag_tables(), st.sampled_from(["weighted-sampler", "oversample"]))
@settings(max_examples=100, deadline=None)
def test_any_tags_can_be_sampled(
    targets: npt.NDArray[np.int64], strategy: ImbalanceStrategy
) -> None:
    counts = dict(zip("abc", targets.sum(axis=0).tolist(), strict=True))
    plan = _plan(strategy, counts=counts, task="multilabel", pictures=len(targets))
    epochs = [plan_epoch(targets, plan, seed=0, epoch=epoch) for epoch in range(3)]
    assert len({len(views) for views in epochs}) == 1
    assert all((views.positions >= 0).all() for views in epochs)
    assert all((views.positions < len(targets)).all() for views in epochs)
    if strategy == "oversample":
        assert all(set(views.positions) == set(range(len(targets))) for views in epochs)


def test_rare_tags_are_shown_more_often() -> None:
    targets = np.array([[1, 0]] * 90 + [[1, 1]] * 10 + [[0, 0]] * 100)
    counts = {"usual": 100, "rare": 10}
    shown = {}
    for strategy in ("none", "weighted-sampler", "oversample"):
        plan = _plan(strategy, counts=counts, task="multilabel", pictures=200)  # type: ignore[arg-type]
        views = plan_epoch(targets, plan, seed=0, epoch=1)
        shown[strategy] = int(targets[views.positions][:, 1].sum())
    assert shown["none"] == 10
    assert shown["weighted-sampler"] > 50
    assert shown["oversample"] == 100


# Logit adjustment


def _skewed(count: int = 4000) -> tuple[PredictionTable, npt.NDArray[np.int64], LabelSpace]:
    """Logits that are right for classes of 90, 8 and 2 %, and overconfident by a factor of 2."""
    rng = np.random.default_rng(0)
    prior = np.array([0.9, 0.08, 0.02])
    targets = rng.choice(3, count, p=prior)
    evidence = rng.normal(size=(count, 3))
    evidence[np.arange(count), targets] += 1.0  # likelihood ratios: exp(evidence)
    logits = (2 * (evidence + np.log(prior))).astype(np.float32)
    space = LabelSpace.flat("multiclass", ["a", "b", "c"])
    ids = tuple(map(str, range(count)))
    return PredictionTable(ids, space.names, logits, np.zeros_like(logits)), targets, space


def test_logit_adjustment_joins_the_temperature_and_balances_recall() -> None:
    table, targets, space = _skewed()
    counts = dict(zip(space.names, np.bincount(targets).tolist(), strict=True))
    bias = logit_adjustment(_plan("logit-adjust", counts=counts))
    assert bias is not None
    part = CalibrationPart("validation", table.logits, targets, space, np.arange(len(targets)))
    plain = fit_policy(part, DecisionConfig())
    adjusted = fit_policy(part, DecisionConfig(), logit_adjustment=bias)
    assert adjusted.policy.scale == plain.policy.scale
    assert adjusted.policy.scale[0] == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(adjusted.policy.bias, -np.log(np.bincount(targets) / len(targets)))
    assert any("equally frequent" in note for note in adjusted.notes)
    assert plain.policy.bias == (0.0,) * 3

    def recalls(policy: Any) -> FLOATS:
        named = calibrate(table.logits, policy, "multiclass").argmax(axis=1)
        return np.array([(named[targets == c] == c).mean() for c in range(3)])

    assert np.ptp(recalls(adjusted.policy)) < 0.15 < np.ptp(recalls(plain.policy))


def test_logit_adjustment_without_pictures_to_calibrate_on() -> None:
    table, targets, space = _skewed()
    part = CalibrationPart("x", table.logits[:0], targets[:0], space, np.arange(0))
    empty = fit_policy(part, DecisionConfig(), logit_adjustment=[1.0, 2.0, 3.0])
    assert empty.policy.bias == (1.0, 2.0, 3.0) and empty.policy.scale == (1.0,) * 3
    assert logit_adjustment(_plan("class-weights")) is None


# Augmentation of rare classes


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_built_in_augmentation_keeps_size_and_kind(width: int, height: int, seed: int) -> None:
    image = Image.fromarray(pattern(width, height))
    first, second = (vary(image, np.random.default_rng(seed)) for _ in range(2))
    assert first.size == (width, height) and first.mode == "RGB"
    assert first.tobytes() == second.tobytes()


def test_built_in_augmentation_changes_every_picture_differently() -> None:
    image = Image.fromarray(pattern(48, 32))
    views = {vary(image, np.random.default_rng(seed)).tobytes() for seed in range(10)}
    assert len(views) == 10 and image.tobytes() not in views


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The optional package, without its look at a package index."""
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations")


def _definition(albumentations: Any) -> dict[str, Any]:
    A = albumentations  # noqa: N806
    pipeline = A.Compose(
        [
            A.RandomBrightnessContrast(p=1.0),
            A.OneOf([A.GaussianBlur(p=1.0), A.GaussNoise(p=1.0)], p=0.8),
            A.Affine(rotate=(-20, 20), p=0.8),
        ]
    )
    return dict(json.loads(json.dumps(A.to_dict(pipeline))))


def test_pipeline_depends_on_the_generator_alone(albumentations: Any) -> None:
    pipeline = AlbumentationsPipeline(_definition(albumentations))
    image = Image.fromarray(pattern(32, 24))

    def view(seed: int) -> bytes:
        return pipeline(image, np.random.default_rng(seed)).tobytes()

    alone = [view(seed) for seed in range(24)]
    assert len(set(alone)) == 24
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(view, reversed(range(24)))) == alone[::-1]
    other = pickle.loads(pickle.dumps(pipeline))
    assert other(image, np.random.default_rng(5)).tobytes() == alone[5]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_pipeline_file_goes_into_the_configuration(
    albumentations: Any, tmp_path: Path, suffix: str
) -> None:
    definition = _definition(albumentations)
    file = tmp_path / f"pipeline.{suffix}"
    dump = json.dumps if suffix == "json" else yaml.safe_dump
    file.write_text(dump(definition))
    config = load_config(
        "staged",
        overrides=["imbalance.strategy=oversample", f"imbalance.oversample_pipeline={file}"],
    )
    assert with_pipeline(config).imbalance.oversample_pipeline == definition
    by_name = build_rare_augmentation(_plan("oversample", oversample_pipeline=str(file)), (16, 16))
    inline = build_rare_augmentation(_plan("oversample", oversample_pipeline=definition), (16, 16))
    image = Image.fromarray(pattern(16, 16))
    assert by_name is not None and inline is not None
    assert by_name(image, np.random.default_rng(0)).tobytes() == (
        inline(image, np.random.default_rng(0)).tobytes()
    )


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("RandomCrop", {"height": 8, "width": 8}, "keep the picture's size"),
        ("Resize", {"height": 8, "width": 8, "p": 0.5}, "keep the picture's size"),
        ("RandomCrop", {"height": 999, "width": 999}, "fails on a picture"),
        ("ToGray", {"num_output_channels": 1, "p": 1.0}, "keep the picture's size"),
        ("Normalize", {}, "received ndarray float32"),
        ("ToTensorV2", {}, "received Tensor"),
    ],
)
def test_pipelines_of_another_kind_are_refused(
    albumentations: Any, name: str, options: dict[str, Any], reason: str
) -> None:
    pipeline = albumentations.Compose([_transform(albumentations, name)(**options)])
    plan = _plan("oversample", oversample_pipeline=albumentations.to_dict(pipeline))
    with pytest.raises(ConfigError, match=reason):
        build_rare_augmentation(plan, (16, 16))


def _transform(albumentations: Any, name: str) -> Any:
    found = getattr(albumentations, name, None)
    return found or getattr(pytest.importorskip("albumentations.pytorch"), name)


def test_pipeline_that_needs_boxes_is_refused(albumentations: Any) -> None:
    boxes = albumentations.BboxParams(format="yolo", label_fields=["kinds"])
    pipeline = albumentations.Compose([albumentations.HorizontalFlip()], bbox_params=boxes)
    plan = _plan("oversample", oversample_pipeline=albumentations.to_dict(pipeline))
    with pytest.raises(ConfigError, match="without boxes"):
        build_rare_augmentation(plan, (16, 16))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("transform: {__class_fullname__: os.system, p: 1}", "has no transform 'os.system'"),
        ("transform: {__class_fullname__: HorizontalFlip, p: 7}", "cannot build"),
        ("transform: {__class_fullname__: HorizontalFlip, p: 1, strength: 2}", "'strength'"),
        ("transform: {}", "__class_fullname__"),
        ("transforms: []", "holds no albumentations pipeline"),
        ("- 1", "holds no albumentations pipeline"),
        ("a: [", "neither YAML nor JSON"),
        ("!!python/object/apply:os.getcwd []", "neither YAML nor JSON"),
    ],
)
def test_files_that_hold_no_pipeline(
    albumentations: Any, tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(content)
    config = load_config(
        "staged",
        overrides=["imbalance.strategy=oversample", f"imbalance.oversample_pipeline={file}"],
    )
    with pytest.raises(ConfigError, match=reason):
        with_pipeline(config)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot read the pipeline"):
        with_pipeline(config)


def test_without_albumentations_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install 'taxon-vision\[albumentations\]'"
    ):
        AlbumentationsPipeline({"transform": {"__class_fullname__": "HorizontalFlip", "p": 1}})


def test_built_in_augmentation_needs_no_albumentations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    assert build_rare_augmentation(_plan("oversample"), (16, 16)) is vary
    assert build_rare_augmentation(_plan("class-weights"), (16, 16)) is None


# Whole runs


def _trained(manifest: Manifest, *overrides: str, events: list[Event] | None = None) -> Trained:
    options = {"model": TINY_BACKBONE, "weights": "none", "device": "cpu", "epochs": 1}
    quick = ("preprocessing.size=32", "preprocessing.resize=squash", "batch_size=16")
    config = load_config("scratch", options=options, overrides=[*quick, *overrides])
    listener = events.append if events is not None else silent
    start = choose_start(config, Path.cwd(), silent)
    plan = choose_plan(start, manifest, config, listener)
    return train_classifier(start, manifest, plan, listener)


@pytest.fixture(scope="module")
def divided(defects: Path) -> Manifest:
    """A small manifest with parts."""
    manifest = load_manifest(defects)
    rows: Counter[str] = Counter()

    def keep(record: Any) -> bool:
        rows[record.labels[0]] += 1
        return rows[record.labels[0]] <= 12

    return ensure_split(manifest.where(keep), validation=0.2, test=0.2, seed=0).manifest


def _head(trained: Trained) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trained.classifier.head.state_dict().values()])


def test_strategies_change_the_model_and_say_so(divided: Manifest) -> None:
    heads = {}
    for strategy in ("none", "weighted-sampler", "oversample", "[focal, class-weights]"):
        events: list[Event] = []
        trained = _trained(divided, f"imbalance.strategy={strategy}", events=events)
        heads[strategy] = _head(trained).numpy().tobytes()
        told = [event.text for event in events if isinstance(event, Note)]
        notes = [note for note in trained.notes if note.startswith("imbalance: ")]
        assert len(notes) == 1 and notes[0] in told
        steps = next(event.steps for event in events if isinstance(event, StageStarted))
        expected = _shown(divided, strategy == "oversample")
        assert steps == -(-expected // 16)
    assert len(set(heads.values())) == 4


def _shown(manifest: Manifest, oversampled: bool) -> int:
    counts = manifest.part("train").counts()
    return max(counts.values()) * len(counts) if oversampled else sum(counts.values())


def test_weights_of_pictures_are_relative(divided: Manifest) -> None:
    def weighted(weights: list[float]) -> Manifest:
        records = [
            replace(record, weight=weights[position % len(weights)])
            for position, record in enumerate(divided.records)
        ]
        return replace(divided, records=tuple(records))

    heads = [_head(_trained(weighted(weights))) for weights in ([1.0], [4.0], [0.5, 2.0])]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_blending_repeats_by_seed_and_goes_with_the_strategies(divided: Manifest) -> None:
    runs = [
        _head(_trained(divided, "imbalance.strategy=[focal, class-weights]", *more))
        for more in (["augment.mixup=0.4"], ["augment.mixup=0.4"], ["augment.cutmix=1"], [])
    ]
    assert torch.equal(runs[0], runs[1])
    assert len({run.numpy().tobytes() for run in runs}) == 3


@pytest.mark.parametrize(
    "strategy", ["auto", "weighted-sampler", "oversample", "[focal, class-weights]"]
)
def test_several_labels_train_with_every_strategy_that_they_allow(
    tags: Path, strategy: str
) -> None:
    manifest = ensure_split(load_manifest(tags), validation=0.2, test=0.2, seed=0).manifest
    trained = _trained(manifest, f"imbalance.strategy={strategy}")
    assert np.isfinite(trained.history[0]["train_loss"])
    assert any(note.startswith("imbalance: ") for note in trained.notes)


@pytest.mark.usefixtures("without_export")
def test_pipeline_is_kept_in_the_bundle(albumentations: Any, defects: Path, tmp_path: Path) -> None:
    definition = _definition(albumentations)
    (tmp_path / "pipeline.json").write_text(json.dumps(definition))
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        overrides=[
            "preprocessing.size=32",
            "imbalance.strategy=oversample",
            f"imbalance.oversample_pipeline={tmp_path / 'pipeline.json'}",
        ],
    )
    config = read_bundle(model.path).info.provenance.config
    assert config["imbalance"]["oversample_pipeline"] == definition


def test_logit_adjustment_reaches_the_artefact(defects: Path, tmp_path: Path) -> None:
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        epochs=1,
        overrides=["preprocessing.size=32", "imbalance.strategy=logit-adjust"],
    )
    bundle = read_bundle(model.path)
    counts = np.array(
        list(
            taxon.data.read_manifest(model.path / "manifest.parquet")
            .part("train")
            .counts()
            .values()
        )
    )
    np.testing.assert_allclose(bundle.spec.policy.bias, -np.log(counts / counts.sum()), rtol=1e-6)
    picture = next((defects / "good").glob("*.jpg"))
    data = prepare(picture.read_bytes(), bundle.spec.preprocessing)[None]
    session = onnxruntime.InferenceSession(model.path / "artefacts" / "onnx" / "model.onnx")
    probabilities, logits = session.run(["probabilities", "logits"], {"images": data})
    scale, prior = np.array(bundle.spec.policy.scale), counts / counts.sum()
    np.testing.assert_allclose(
        probabilities, softmax(scale * logits - np.log(prior), axis=1), atol=1e-5
    )
    in_torch = taxon.load(model.path, backend="pytorch").predict(picture)
    assert in_torch.confidence == pytest.approx(probabilities.max(), abs=1e-4)
    assert any("imbalance: logit-adjust" in note for note in bundle.info.provenance.notes)


def test_what_compensates_twice_is_refused_before_pictures_are_read(
    defects: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    with pytest.raises(ConfigError, match="compensate twice"):
        taxon.train(
            defects,
            out=tmp_path / "run",
            weights="none",
            overrides=["imbalance.strategy=[oversample, class-weights]"],
            listener=events.append,
        )
    assert not [event for event in events if not isinstance(event, Note)]

"""The logistic stage: scikit-learn's solution, as a head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

import taxon
from taxon.bundle import read_bundle
from taxon.config import load_config
from taxon.core.errors import ConfigError
from taxon.models.restore import restore_classifier
from taxon.training import Event, Note, StageStarted
from taxon.training.logistic import STRENGTHS, UNSEEN, Examples, LinearHead, solve


def _examples(targets: np.ndarray, seed: int, weights: np.ndarray | None = None) -> Examples:
    rng = np.random.default_rng(seed)
    count = len(targets)
    signal = targets if targets.ndim == 2 else np.eye(targets.max() + 1)[targets]
    mixing = np.random.default_rng(5).normal(size=(signal.shape[1], 6))
    features = (signal @ mixing + rng.normal(size=(count, 6))).astype(np.float32) * [
        1,
        10,
        1,
        1,
        1,
        1,
    ]
    return Examples(
        features.astype(np.float32),
        targets,
        np.ones(count) if weights is None else weights,
        np.arange(count),
    )


def _logits(head: LinearHead, features: np.ndarray) -> np.ndarray:
    return ((features - head.mean) * head.factor) @ head.weight.T + head.bias


def _loss(logits: np.ndarray, targets: np.ndarray) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


@pytest.mark.parametrize("classes", [2, 4])
def test_the_head_gives_scikit_learns_probabilities(classes: int) -> None:
    targets = np.random.default_rng(0).integers(0, classes, 200)
    weights = np.random.default_rng(1).uniform(0.5, 2, 200)
    train, validation = _examples(targets, 0, weights), _examples(targets, 1)
    head = solve(train, validation, classes=classes, seed=0)
    assert head.strength in STRENGTHS and "200 validation pictures" in head.reason
    inner = (train.features - head.mean) * head.factor
    np.testing.assert_allclose(inner.std(axis=0), 1, rtol=1e-4)
    model = LogisticRegression(C=head.strength, max_iter=1000)
    model.fit(inner, targets, sample_weight=weights)
    theirs = model.predict_log_proba((validation.features - head.mean) * head.factor)
    ours = _logits(head, validation.features)
    # Scaled by the temperature with the smallest loss on validation; no other is better.
    temperatures = np.exp(np.linspace(-1, 1, 201))
    losses = [_loss(theirs / temperature, targets) for temperature in temperatures]
    scaled = log_softmax(theirs / temperatures[int(np.argmin(losses))], axis=1)
    np.testing.assert_allclose(softmax(ours, axis=1), np.exp(scaled), atol=0.01)
    assert _loss(ours, targets) <= min(losses) + 1e-4
    own = log_softmax(_logits(head, train.features), axis=1)[np.arange(200), targets]
    assert head.loss == pytest.approx(-np.average(own, weights=weights), abs=1e-4)


def test_with_fewer_rows_than_features_the_head_is_scikit_learns_too() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 60)
    signal = np.eye(3)[targets] @ rng.normal(size=(3, 200))

    def examples(seed: int) -> Examples:
        noise = np.random.default_rng(seed).normal(size=(60, 200))
        features = (signal + 3 * noise).astype(np.float32)
        features[:, 7] = 1.0  # one that never varies
        return Examples(features, targets, np.ones(60), np.arange(60))

    train, validation = examples(1), examples(2)
    head = solve(train, validation, classes=3, seed=0)
    assert head.weight.shape == (3, 200)
    inner, outer = ((e.features - head.mean) * head.factor for e in (train, validation))
    model = LogisticRegression(C=head.strength, max_iter=2000, tol=1e-8).fit(inner, targets)
    theirs = outer @ (model.coef_ - model.coef_.mean(axis=0)).T
    ours = outer @ (head.weight - head.weight.mean(axis=0)).T
    # The same up to the temperature.
    np.testing.assert_allclose(ours * theirs.std() / ours.std(), theirs, atol=0.02)
    assert head.loss == pytest.approx(_loss(_logits(head, train.features), targets), abs=1e-4)


def test_the_simplest_strength_within_a_standard_error_of_the_best_is_taken() -> None:
    targets = np.random.default_rng(0).integers(0, 3, 60)
    train, validation = _examples(targets, 0), _examples(targets, 1)
    head = solve(train, validation, classes=3, seed=0)
    inner, outer = ((e.features - head.mean) * head.factor for e in (train, validation))
    losses = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(inner, targets)
        logits = model.predict_log_proba(outer)
        scales = np.exp(np.linspace(-3, 3, 601))
        best = min(scales, key=lambda scale: _loss(logits * scale, targets))
        losses.append(-log_softmax(logits * best, axis=1)[np.arange(60), targets])
    best_losses = min(losses, key=np.mean)
    surely_worse = [
        np.mean(own - best_losses) > np.std(own - best_losses) / np.sqrt(60) for own in losses
    ]
    # Strengths rise: the first one that is not surely worse is the simplest.
    assert STRENGTHS.index(head.strength) == surely_worse.index(False)
    assert surely_worse.index(False) > 0


def test_several_labels_are_solved_each_for_itself_and_unknown_ones_left_out() -> None:
    targets = np.random.default_rng(0).integers(0, 2, (200, 3))
    unknown = targets.copy()
    unknown[:50, 1] = -1
    head = solve(_examples(targets, 0), _examples(targets, 1), classes=3, seed=0)
    train = _examples(targets, 0)
    masked = Examples(train.features, unknown, train.weights, train.groups)
    partly = solve(masked, _examples(targets, 1), classes=3, seed=0)
    inner = (train.features - partly.mean) * partly.factor
    model = LogisticRegression(C=partly.strength, max_iter=1000)
    model.fit(inner[50:], targets[50:, 1])
    ours, theirs = _logits(partly, train.features)[:, 1], model.decision_function(inner)
    # The same up to the temperature, which all labels share.
    np.testing.assert_allclose(ours * theirs.std() / ours.std(), theirs, atol=0.02)
    assert head.strength == partly.strength
    ratio = np.linalg.norm(head.weight[0]) / np.linalg.norm(partly.weight[0])
    np.testing.assert_allclose(head.weight[[0, 2]], ratio * partly.weight[[0, 2]], atol=0.01)


def test_without_validation_folds_choose_and_a_class_without_pictures_is_never_named() -> None:
    targets = np.random.default_rng(0).choice([0, 2, 3], 120)
    train = _examples(targets, 0)
    head = solve(train, None, classes=5, seed=0)
    assert "cross-validation in 3 folds" in head.reason
    assert head.bias[1] == head.bias[4] == UNSEEN
    assert set(_logits(head, train.features).argmax(axis=1)) <= {0, 2, 3}


def test_the_probe_recipe_makes_a_model_in_one_epoch(defects: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    model = taxon.train(
        defects,
        out=tmp_path / "run",
        model="test_convnext",
        weights="none",
        recipe="probe",
        # A moving average of no steps must not put the head back to where it was.
        overrides=["preprocessing.size=32", "pooling=blocks", "optimiser.ema=0.9"],
        listener=events.append,
    )
    bundle = read_bundle(model.path)
    assert (bundle.info.head, bundle.info.pooling) == ("standardised", "blocks")
    (row,) = bundle.info.provenance.history
    assert row["stage"] == "head" and row["learning_rate"] is None and row["train_loss"] > 0
    assert any(isinstance(e, Note) and e.text.startswith("head solved for") for e in events)
    assert [e.steps for e in events if isinstance(e, StageStarted)] == [1]
    head = restore_classifier(bundle).head
    assert not torch.equal(head[0].factor, torch.ones_like(head[0].factor))
    assert all(report.passed for report in model.verify())


@pytest.mark.usefixtures("without_export")
@pytest.mark.parametrize(
    ("recipe", "said"), [("probe", "counts nowhere; --recipe staged"), ("finetune", "in 'all'")]
)
def test_a_loss_that_a_solved_stage_does_not_heed_is_said(
    surfaces: Path, tmp_path: Path, recipe: str, said: str
) -> None:
    events: list[Event] = []
    taxon.train(
        surfaces,
        out=tmp_path / "run",
        model="test_convnext",
        weights="none",
        recipe=recipe,
        epochs=2,
        overrides=["preprocessing.size=32", "loss.taxonomy=levels"],
        listener=events.append,
    )
    notes = [event.text for event in events if isinstance(event, Note)]
    (note,) = [text for text in notes if text.startswith("loss: ")]
    assert "'head' is solved for with plain cross-entropy; loss.taxonomy=levels" in note
    assert said in note


def test_a_head_of_another_kind_cannot_be_solved_for() -> None:
    with pytest.raises(ConfigError, match="solves for a head=standardised; this head is 'mlp'"):
        load_config("probe", overrides=["head=mlp"])
    with pytest.raises(ConfigError, match="unfrozen_blocks 0 and 1 epoch"):
        load_config("probe", overrides=["stages.0.unfrozen_blocks=all"])
    with pytest.raises(ConfigError, match=r"allowed: stages\.0 to stages\.0"):
        load_config("probe", overrides=["stages.3.epochs=1"])


def test_epochs_scale_what_is_stepped_through() -> None:
    config = load_config("finetune", options={"epochs": 6})
    assert [stage.epochs for stage in config.stages] == [1, 5]
    assert load_config("probe", options={"epochs": 9}).total_epochs == 1

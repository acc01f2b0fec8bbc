"""Steps, learning rates, moving average and patience: by hand, and through training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_BACKBONE, exports_left_out
from safetensors.torch import load_file

import taxon
from taxon.bundle import read_bundle
from taxon.config import OptimiserConfig, StageConfig
from taxon.models import build_classifier
from taxon.models.backbones import blocks, freeze_all_but_last
from taxon.training import Event, Note, StepDone, steps
from taxon.training.optimiser import (
    MovingAverage,
    build_optimiser,
    load_optimiser_state,
    optimiser_state,
    parameter_groups,
    set_rate,
)

pytestmark = pytest.mark.usefixtures("without_export")

ALL = StageConfig(name="all", unfrozen_blocks="all", learning_rate=0.01)


def test_norms_and_biases_do_not_decay_and_lower_blocks_learn_more_slowly() -> None:
    classifier = build_classifier(3, "test_efficientnet", weights="none")
    groups = parameter_groups(classifier, OptimiserConfig(weight_decay=0.1, layer_decay=0.5))
    found = {
        id(parameter): (group["scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert len(found) == len(list(classifier.parameters()))
    depths = blocks(classifier.spec)
    parameters = dict(classifier.backbone.named_parameters())
    for depth, names in enumerate(depths):
        for name in names:
            parameter = parameters[name]
            decay = 0.1 if parameter.ndim > 1 else 0.0
            assert found[id(parameter)] == (0.5 ** (len(depths) - depth), decay), name
    assert {found[id(p)][0] for p in classifier.head.parameters()} == {1.0}
    optimiser = build_optimiser(classifier, ALL, OptimiserConfig(layer_decay=0.5))
    set_rate(optimiser, 0.4)
    assert max(group["lr"] for group in optimiser.param_groups) == 0.4
    assert min(group["lr"] for group in optimiser.param_groups) == 0.4 * 0.5 ** len(depths)


def test_frozen_parameters_are_in_no_group() -> None:
    classifier = build_classifier(3, "test_efficientnet", weights="none")
    freeze_all_but_last(classifier.spec, 0)
    groups = parameter_groups(classifier, OptimiserConfig())
    inside = {id(parameter) for group in groups for parameter in group["params"]}
    assert inside == {id(parameter) for parameter in classifier.head.parameters()}


def test_the_moving_average_is_that_of_the_formula() -> None:
    layer = torch.nn.BatchNorm1d(1)
    average = MovingAverage(layer, 0.9)
    values, expected = [3.0, -1.0, 5.0] * 20, 1.0
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update(layer)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weights()["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert "num_batches_tracked" not in average.weights()
    again = MovingAverage(torch.nn.BatchNorm1d(1), 0.9)
    again.load(average.state())
    with torch.no_grad():
        layer.weight.fill_(7.0)
    average.update(layer)
    again.update(layer)
    assert torch.equal(again.weights()["weight"], average.weights()["weight"])


def test_an_optimiser_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    classifiers = [build_classifier(3, "test_convnext", weights="none") for _ in range(2)]
    classifiers[1].load_state_dict(classifiers[0].state_dict())
    config = OptimiserConfig(layer_decay=0.7)
    first, second = (build_optimiser(classifier, ALL, config) for classifier in classifiers)

    def step(classifier: Any, optimiser: Any, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in classifier.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()

    step(classifiers[0], first, 1)
    classifiers[1].load_state_dict(classifiers[0].state_dict())
    state = {name: value.clone() for name, value in optimiser_state(first).items()}
    load_optimiser_state(second, state)
    step(classifiers[0], first, 2)
    step(classifiers[1], second, 2)
    states = [classifier.state_dict() for classifier in classifiers]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _weights(data: Path, run: Path, listener: Any = None, **options: Any) -> dict[str, Any]:
    stage = "stages=[{name: last, epochs: 2, unfrozen_blocks: 1, learning_rate: 0.003}]"
    common = {"model": TINY_BACKBONE, "weights": "none", "recipe": "scratch", "batch_size": 16}
    overrides = ["preprocessing.size=32", stage, "head=linear", *options.pop("overrides", [])]
    listeners = {} if listener is None else {"listener": listener}
    model = taxon.train(data, out=run, overrides=overrides, **common, **options, **listeners)
    return load_file(model.path / "model.safetensors") | load_file(model.path / "head.safetensors")


@pytest.fixture(scope="module")
def whole(few: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights of a training with no option of its own."""
    with exports_left_out():
        return _weights(few, tmp_path_factory.mktemp("whole") / "run")


def test_a_step_in_parts_is_the_step(few: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    parts = _weights(few, tmp_path / "parts", overrides=["accumulation=5"])
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_batch_that_does_not_fit_is_halved_and_said(
    few: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    gradients = steps._gradients

    def too_small(
        job: Any, module: Any, loss: Any, optimiser: Any, batch: Any, parts: int
    ) -> float:
        if len(batch.targets) / parts > 5:
            raise torch.OutOfMemoryError("out of memory")
        return gradients(job, module, loss, optimiser, batch, parts)

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    monkeypatch.setattr(steps, "_gradients", too_small)
    halved = _weights(few, tmp_path / "halved", listener=listen)
    said = [note for note in notes if "does not fit into the device's memory" in note]
    assert [note.split(": ")[1].split(" of")[0] for note in said] == ["2 parts", "4 parts"]
    for name, value in whole.items():
        torch.testing.assert_close(value, halved[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_stage_ends_when_its_patience_does(few: Path, tmp_path: Path) -> None:
    stages = (
        "stages=[{name: still, epochs: 9, unfrozen_blocks: 0, learning_rate: 1.0e-9, patience: 2}, "
        "{name: all, epochs: 1, unfrozen_blocks: all, learning_rate: 0.003}]"
    )
    events: list[Event] = []
    model = taxon.train(
        few,
        out=tmp_path / "run",
        model=TINY_BACKBONE,
        weights="none",
        recipe="scratch",
        overrides=["preprocessing.size=32", stages],
        listener=events.append,
    )
    history = read_bundle(model.path).info.provenance.history
    assert [row["stage"] for row in history] == ["still"] * 3 + ["all"]
    assert any(isinstance(e, Note) and "ended early, 2 epochs" in e.text for e in events)
    assert [e for e in events if isinstance(e, StepDone)][-1].seconds_left == pytest.approx(
        0, abs=1
    )


def test_what_is_kept_with_a_moving_average_is_the_average(
    few: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    averaged = _weights(few, tmp_path / "averaged", overrides=["optimiser.ema=0.999"])
    start = _weights(few, tmp_path / "start", overrides=["stages.0.learning_rate=1e-12"])
    name = "weight"
    # An average lies between where it began and where the weights went.
    assert 0 < (averaged[name] - start[name]).norm() < (whole[name] - start[name]).norm()

"""The optimiser: parameter groups, learning rates, and the moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from taxon.config import OptimiserConfig, StageConfig
from taxon.models import Classifier
from taxon.models.backbones import blocks

State = dict[str, torch.Tensor]


def build_optimiser(classifier: Classifier, stage: StageConfig, config: OptimiserConfig) -> AdamW:
    """AdamW over what trains; each group knows its share of the learning rate (`scale`)."""
    return AdamW(parameter_groups(classifier, config), lr=stage.learning_rate)


def parameter_groups(classifier: Classifier, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Trainable parameters by decay and by depth.

    Matrices and kernels decay, norms and biases do not. With a layer decay below 1, the last
    block's learning rate is that share of the head's, the block before it has that share of the
    last one's, and so on down to the stem.
    """
    scales = _scales(classifier, config.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in classifier.parameters():
        if parameter.requires_grad:
            key = (scales.get(id(parameter), 1.0), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": config.weight_decay * decays}
        for (scale, decays), parameters in groups.items()
    ]


def _scales(classifier: Classifier, layer_decay: float) -> dict[int, float]:
    """By the id of a parameter of the backbone: its share of the learning rate."""
    if layer_decay == 1.0:
        return {}
    groups = blocks(classifier.spec)
    parameters = dict(classifier.backbone.named_parameters())
    return {
        id(parameters[name]): layer_decay ** (len(groups) - depth)
        for depth, names in enumerate(groups)
        for name in names
    }


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate: each group's share of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


def rate_factor(step: int, stage: StageConfig, total: int, warmup: int) -> float:
    """The factor on the stage's learning rate at a step (counted from 0): 0 to 1."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if stage.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def optimiser_state(optimiser: torch.optim.Optimizer) -> State:
    """The optimiser's tensors by `parameter.name`."""
    return {
        f"{parameter}.{name}": value
        for parameter, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: State) -> None:
    """Put back what `optimiser_state` took out."""
    values: dict[int, State] = {}
    for key, value in state.items():
        parameter, _, name = key.partition(".")
        values.setdefault(int(parameter), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": values})


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return (trainable, total) parameters."""
    total = sum(parameter.numel() for parameter in module.parameters())
    trainable = sum(
        parameter.numel() for parameter in module.parameters() if parameter.requires_grad
    )
    return trainable, total


def snapshot(module: nn.Module) -> State:
    """A copy of the weights on the CPU, untouched by further training."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


class MovingAverage:
    """Exponential moving average of the weights and of batch norm's statistics.

    The decay rises with the steps, min(decay, (1 + t) / (10 + t)), so that the first weights do
    not weigh on short runs.

    Args:
        decay: 0 to 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._average = {
            name: value.detach().clone()
            for name, value in module.state_dict().items()
            if value.is_floating_point()
        }

    def update(self, module: nn.Module) -> None:
        """Take the weights of one more step in."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        current = module.state_dict()
        torch._foreach_lerp_(
            list(self._average.values()), [current[name] for name in self._average], 1 - decay
        )

    def state(self) -> State:
        """The averaged weights, and the number of steps."""
        return {**self._average, "": torch.tensor(self._steps)}

    def load(self, state: State) -> None:
        """Put back what `state` gave."""
        self._steps = int(state[""])
        for name, value in self._average.items():
            value.copy_(state[name])

    def weights(self) -> State:
        """The averaged weights alone."""
        return self._average

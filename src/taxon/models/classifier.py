"""The classifier: backbone, head, and the graph that every exporter exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from taxon.config import HeadKind, Pooling
from taxon.core.labels import Task
from taxon.core.predictions import FloatArray
from taxon.decision import DecisionPolicy
from taxon.models.backbones import Backbone, create_backbone
from taxon.models.pooling import build_features
from taxon.models.scope import ScopeScore
from taxon.models.weights import load_pretrained
from taxon.preprocessing import Preprocessing

HIDDEN_SIZE = 512
DROPOUT = 0.3


def build_head(kind: HeadKind, features: int, num_classes: int) -> nn.Module:
    """Build a head on pooled features: [N, features] -> logits [N, num_classes].

    `mlp` is Linear(features, 512) -> GELU -> Dropout(0.3) -> Linear(512, num_classes);
    `linear` is one linear layer; `standardised` is a linear layer on features of mean 0 and
    deviation 1.
    """
    if kind == "linear":
        return nn.Linear(features, num_classes)
    if kind == "standardised":
        return nn.Sequential(Standardise(features), nn.Linear(features, num_classes))
    return nn.Sequential(
        nn.Linear(features, HIDDEN_SIZE),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN_SIZE, num_classes),
    )


class Standardise(nn.Module):
    """Features [N, F] -> (features - mean) * factor, per feature; both are constants of training.

    Until they are set, features pass unchanged.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("factor", torch.ones(features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - cast(torch.Tensor, self.mean)) * cast(torch.Tensor, self.factor)


class Classifier(nn.Module):
    """A backbone and a head: normalised float [N, 3, H, W] -> logits [N, num_classes].

    The head stands beside the backbone and not in one of its attributes: setting
    `model.classifier`, as tutorials do, has no effect on architectures that call it otherwise.

    Attributes:
        features: the backbone up to the pooled features.
        pooling: which features these are.
    """

    def __init__(
        self, backbone: Backbone, kind: HeadKind, num_classes: int, pooling: Pooling = "last"
    ) -> None:
        super().__init__()
        self.spec = backbone
        self.pooling = pooling
        self.features, size = build_features(backbone, pooling)
        self.head = build_head(kind, size, num_classes)

    @property
    def backbone(self) -> nn.Module:
        """The network, with parameters in timm's own names."""
        return self.spec.module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.features(images)))


class InferenceModule(nn.Module):
    """The graph half of the preprocessing and the model, constants as buffers.

    uint8 [N, 3, H, W] -> (probabilities, logits), float32 [N, C] each: cast, normalise,
    backbone, head, scale and bias, softmax or sigmoid. The logits are the head's own, before
    calibration. With a policy that flags pictures out of scope, their scores, float32 [N], come
    third; the pooled features, float32 [N, F], come last where they are asked for.

    Args:
        bank: float32 [M, F], for the scope; None where the policy has no use for it.
        gives_features: whether the features that go into the head are an output too.
    """

    def __init__(
        self,
        classifier: Classifier,
        preprocessing: Preprocessing,
        policy: DecisionPolicy,
        task: Task,
        bank: FloatArray | None = None,
        *,
        gives_features: bool = False,
    ) -> None:
        super().__init__()
        self.gives_features = gives_features
        self.classifier = classifier
        self.normalise = Normalise(preprocessing.mean, preprocessing.std)
        self.task = task
        self.register_buffer("scale", torch.tensor(policy.scale, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(policy.bias, dtype=torch.float32))
        self.scope = None if policy.scope is None else ScopeScore(policy.scope, task, bank)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.classifier.features(self.normalise(images))
        logits = self.classifier.head(features).float()
        calibrated = logits * cast(torch.Tensor, self.scale) + cast(torch.Tensor, self.bias)
        if self.task == "multilabel":
            probabilities = torch.sigmoid(calibrated)
        else:
            probabilities = torch.softmax(calibrated, dim=1)
        outputs = [probabilities, logits]
        if self.scope is not None:
            outputs.append(self.scope(features, logits))
        if self.gives_features:
            outputs.append(features.float())
        return tuple(outputs)


class Normalise(nn.Module):
    """uint8 [N, 3, H, W] -> float32, (x / 255 - mean) / std; the same layer trains and is exported.

    Args:
        mean, std: of RGB in 0 to 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", 255.0 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("factor", 1.0 / (255.0 * torch.tensor(std).view(1, 3, 1, 1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        centred = images.float() - cast(torch.Tensor, self.mean)
        return centred * cast(torch.Tensor, self.factor)


def build_classifier(
    num_classes: int,
    pretrained_model: str = "efficientnet_b4",
    *,
    weights: str | Path = "hub",
    head: HeadKind = "mlp",
    pooling: Pooling = "last",
    input_size: tuple[int, int] | None = None,
) -> Classifier:
    """Build a classifier on a pretrained backbone.

    Args:
        num_classes: size of the output.
        pretrained_model: a name of `taxon models` or any timm name.
        weights: `hub` (timm's published weights), `none` (random), or a file.
        head: `mlp`, `linear` or `standardised`.
        pooling: `last`, the backbone's own pooled features, `blocks`, statistics of all blocks, or
            `all`: both.
        input_size: (height, width), for architectures that fix it at construction.

    Raises:
        ConfigError: no such backbone.
        WeightsError: the weights are unreachable or do not fit.
    """
    backbone, _ = load_pretrained(create_backbone(pretrained_model, input_size=input_size), weights)
    return Classifier(backbone, head, num_classes, pooling)

"""The rival: the charter's three-stage recipe as a plain PyTorch loop, as a tutorial has it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from taxon.data import Manifest

SIZE = 224


@dataclass(frozen=True)
class Rival:
    """What the loop leaves: logits [N, C] of the test pictures, and how long training took.

    Attributes:
        speeds: pictures a second in each stage.
    """

    logits: npt.NDArray[np.float32]
    seconds: float
    speeds: tuple[float, ...]


class Pictures(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, manifest: Manifest, views: transforms.Compose) -> None:
        self.paths = [record.path for record in manifest.records]
        self.targets, self.views = torch.from_numpy(manifest.targets()), views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.paths[position]) as image:
            return self.views(image.convert("RGB")), self.targets[position]


def train_plain(
    train: Manifest,
    test: Manifest,
    weights: Path,
    *,
    model_name: str,
    seed: int,
    channels_last: bool = True,
) -> Rival:
    """Train on one manifest, and answer for another with the last epoch's weights."""
    torch.manual_seed(seed)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    config = timm.get_pretrained_cfg(model_name)
    normalise = [transforms.ToTensor(), transforms.Normalize(config.mean, config.std)]
    views = transforms.Compose(
        [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *normalise]
    )
    fixed = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIZE), *normalise])
    loader = DataLoader(Pictures(train, views), 32, shuffle=True, num_workers=2)
    test_loader = DataLoader(Pictures(test, fixed), 64, num_workers=2)
    several = train.label_space.task == "multilabel"
    criterion = nn.BCEWithLogitsLoss() if several else nn.CrossEntropyLoss()

    backbone = timm.create_model(model_name, num_classes=0).to(memory_format=layout)
    backbone.load_state_dict(load_file(weights), strict=False)
    head = nn.Sequential(
        nn.Linear(backbone.head_hidden_size, 512),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(512, len(train.label_space.names)),
    )
    start = time.perf_counter()
    stages = [
        ([], 5, 1e-3, False),
        ([*backbone.blocks[-2:], backbone.conv_head], 10, 1e-4, False),
        ([backbone], 10, 1e-4, True),
    ]
    speeds = []
    for unfrozen, epochs, rate, cosine in stages:
        begin = time.perf_counter()
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        for module in unfrozen:
            module.requires_grad_(True)
        trainable = [p for m in (backbone, head) for p in m.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trainable, lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(loader))
        for _ in range(epochs):
            head.train()
            backbone.eval()
            for module in unfrozen:
                module.train()
            for images, targets in loader:
                logits = head(backbone(images.to(memory_format=layout)))
                loss = criterion(logits, targets.float() if several else targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if cosine:
                    schedule.step()
        speeds.append(epochs * len(train) / (time.perf_counter() - begin))
    seconds = time.perf_counter() - start
    backbone.eval()
    head.eval()
    with torch.no_grad():
        answers = [head(backbone(images.to(memory_format=layout))) for images, _ in test_loader]
    return Rival(torch.cat(answers).numpy(), seconds, tuple(speeds))

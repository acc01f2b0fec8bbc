"""The rival: the charter's three-stage recipe as a plain PyTorch loop, as a tutorial has it."""

from __future__ import annotations

import time
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

SIZE = 224


def train_plain(
    train_folder: Path, test_folder: Path, weights: Path, *, model_name: str, seed: int
) -> tuple[float, float]:
    """Train on one ImageFolder, score the last epoch on another.

    Returns:
        (top-1 in 0 to 1, seconds of training).
    """
    torch.manual_seed(seed)
    config = timm.get_pretrained_cfg(model_name)
    normalise = [transforms.ToTensor(), transforms.Normalize(config.mean, config.std)]
    views = transforms.Compose(
        [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *normalise]
    )
    fixed = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIZE), *normalise])
    train_set = ImageFolder(train_folder, views)
    loader = DataLoader(train_set, 32, shuffle=True, num_workers=2)
    test_loader = DataLoader(ImageFolder(test_folder, fixed), 64, num_workers=2)

    backbone = timm.create_model(model_name, num_classes=0)
    backbone.load_state_dict(load_file(weights), strict=False)
    head = nn.Sequential(
        nn.Linear(backbone.head_hidden_size, 512),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(512, len(train_set.classes)),
    )
    start = time.perf_counter()
    stages = [
        ([], 5, 1e-3, False),
        ([*backbone.blocks[-2:], backbone.conv_head], 10, 1e-4, False),
        ([backbone], 10, 1e-4, True),
    ]
    for unfrozen, epochs, rate, cosine in stages:
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
                loss = nn.functional.cross_entropy(head(backbone(images)), targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if cosine:
                    schedule.step()
    seconds = time.perf_counter() - start
    backbone.eval()
    head.eval()
    with torch.no_grad():
        hits = [
            (head(backbone(images)).argmax(1) == targets).float() for images, targets in test_loader
        ]
    return float(torch.cat(hits).mean()), seconds

"""Mixup and cutmix: two pictures in one, and their targets in the same proportion."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from taxon.config import AugmentConfig
from taxon.core.labels import Task


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    num_classes: int,
    config: AugmentConfig,
    generator: torch.Generator,
    task: Task,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix each picture of a batch with another one of it, all by the same share.

    Mixup blends the pixels (Zhang et al. 2018), cutmix puts a box of the other picture in (Yun
    et al. 2019). With both on, chance takes one of them for the batch.

    Args:
        images: float [N, C, H, W], as the model takes them; not changed in place.
        targets: int64 [N] (multi-class), or rows [N, ...] of 0 to 1, and of -1 where a class is
            unknown (multi-label).
        weights: float32 [N], above 0: how much each picture counts.
        config: `mixup` and `cutmix`, each the alpha of Beta(alpha, alpha); 0 is off.
        generator: on the CPU; all chance comes from it.

    Returns:
        The mixed pictures; their targets as float32 [N, num_classes] in 0 to 1 on the device of
        `targets`, for multi-class each row sums to 1, for multi-label -1 where a class is unknown
        of either picture; and their weights. Times its weight, a loss
        that is linear in the target is the same as that of both pictures by share and weight: a
        picture that hardly counts does not come in through its partner's weight.
    """
    soft = _as_rows(targets, num_classes, task)
    if not (config.mixup or config.cutmix):
        return images, soft, weights
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    cut = config.cutmix > 0 and (config.mixup == 0 or rng.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    own = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(images)))
    others = images[partner.to(images.device)]
    if cut:
        images, own = _cutmix(images, others, own, rng)
    else:
        images = torch.lerp(others, images, own)
    partner = partner.to(soft.device)
    total = torch.lerp(weights[partner], weights, own)
    share = (own * weights / total)[:, None]
    mixed = torch.lerp(soft[partner], soft, share)
    return images, torch.where((soft < 0) | (soft[partner] < 0), -1.0, mixed), total


def mixing_generator(seed: int, epoch: int, step: int, process: int = 0) -> torch.Generator:
    """The chance of one step, by its place alone: a resumed run mixes the same pictures.

    Of several processes each mixes its share of the batch, by its own chance: the pairs are not
    those of one process, but as random; what a mixed picture's targets and weight are is the same.

    Args:
        epoch, step: counted from 1 over all stages, and within the epoch.
        process: its number, from 0.
    """
    entropy = np.random.SeedSequence([seed, epoch, step, *([process] if process else [])])
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


def _as_rows(targets: torch.Tensor, num_classes: int, task: Task) -> torch.Tensor:
    single = task == "multiclass" and targets.ndim == 1
    rows = functional.one_hot(targets, num_classes) if single else targets
    return rows.to(torch.float32)


def _cutmix(
    images: torch.Tensor, others: torch.Tensor, own: float, rng: np.random.Generator
) -> tuple[torch.Tensor, float]:
    """Put a box of about the share 1 - own in; return the pictures and their true own share."""
    height, width = images.shape[-2:]
    side = math.sqrt(1 - own)
    top, bottom = _interval(height, side, rng)
    left, right = _interval(width, side, rng)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    # The border of the picture may have cut the box.
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _interval(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """A stretch of share * length about a random centre, as far as it lies within."""
    centre, extent = int(rng.integers(length)), round(length * share)
    start = centre - extent // 2
    return max(0, start), min(length, start + extent)

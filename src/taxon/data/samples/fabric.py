"""Fabric finishes: plain, twill and knit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from taxon.data.samples.canvas import (
    Surface,
    cloud_noise,
    painted,
    plane,
    random_colour,
    smooth_noise,
    turned,
)

_Threads = npt.NDArray[np.int64]
_MOST_THREADS = 256


def plain(rng: np.random.Generator, side: int) -> Surface:
    """Over one, under one."""
    return _woven(rng, side, lambda warp, weft: (warp + weft) % 2 == 0)


def twill(rng: np.random.Generator, side: int) -> Surface:
    """Over two, under two, one step aside in each row: diagonal ribs."""
    return _woven(rng, side, lambda warp, weft: (warp + weft) % 4 < 2)


def _woven(
    rng: np.random.Generator,
    side: int,
    warp_on_top: Callable[[_Threads, _Threads], npt.NDArray[np.bool_]],
) -> Surface:
    x, y = turned(*plane(side), rng.choice([0, np.pi / 2]))
    pitch = rng.uniform(0.028, 0.042)
    wobble = np.float32(0.12)
    # The shift keeps every thread number positive.
    across = x / pitch + wobble * smooth_noise(rng, side, 0.1, 0.3) + 96 + rng.random()
    along = y / pitch + wobble * smooth_noise(rng, side, 0.3, 0.1) + 96 + rng.random()
    warp, weft = np.floor(across).astype(np.int64), np.floor(along).astype(np.int64)
    warp_round = np.sin(np.pi * (across - warp))
    weft_round = np.sin(np.pi * (along - weft))
    on_top = warp_on_top(warp, weft)
    profile = np.where(on_top, warp_round, weft_round).astype(np.float32)
    thread_shades = rng.normal(0, 0.06, (2, _MOST_THREADS)).astype(np.float32)
    shade = np.where(on_top, thread_shades[0, warp], thread_shades[1, weft])
    shade += 0.35 * (profile - 0.7) + 0.04 * cloud_noise(rng, side, 0.015, octaves=1)
    warp_colour = random_colour(rng)
    # Both thread systems are near one colour; the second is a little lighter or darker.
    weft_colour = warp_colour * np.float32(rng.uniform(0.8, 1.2))
    base = np.where(on_top[..., None], warp_colour, weft_colour)
    height = profile * np.float32(pitch * 0.15)
    return Surface(painted(base, shade), height, gloss=0.0)


def knit(rng: np.random.Generator, side: int) -> Surface:
    """Columns of V-shaped stitches."""
    x, y = turned(*plane(side), rng.choice([0, np.pi / 2]))
    width = rng.uniform(0.06, 0.09)
    across = x / width + 0.05 * smooth_noise(rng, side, 0.2, 0.2) + rng.random()
    from_middle = np.abs(across % 1 - 0.5) * 2
    # The legs of a stitch rise to both sides of its column's middle.
    along = y / (width * 0.75) + 0.8 * from_middle + 0.05 * smooth_noise(rng, side, 0.2, 0.2)
    leg = np.abs(np.sin(np.pi * along))
    leg_profile = leg * np.sqrt(np.clip(np.sin(np.pi * np.clip(from_middle, 0, 1)), 0, 1))
    profile = leg_profile.astype(np.float32)
    shade = 0.5 * (profile - 0.6) + 0.05 * cloud_noise(rng, side, 0.015, octaves=1)
    height = profile * np.float32(width * 0.12)
    return Surface(painted(random_colour(rng), shade), height, gloss=0.0)

"""The camera: light on the relief, a tilted view, vignette, blur and sensor noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from taxon.data.samples.canvas import CANVAS_SIDE, Field, Surface


def photograph(surface: Surface, rng: np.random.Generator, size: int) -> Image.Image:
    """A picture of the surface, RGB, `size` x `size` pixels."""
    lit = Image.fromarray(_to_bytes(_lit(surface, rng)))
    view = _tilted(lit, rng, size)
    # Focus is never quite the same; the blur grows with the picture like everything else.
    view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.004) * size))
    return Image.fromarray(_developed(np.asarray(view, dtype=np.float32) / np.float32(255), rng))


def _to_bytes(picture: Field) -> npt.NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _lit(surface: Surface, rng: np.random.Generator) -> Field:
    """Diffuse light and a highlight from one side (Blinn 1977), seen from above."""
    per_pixel = np.float32((surface.side - 1) / CANVAS_SIDE)
    slope_y, slope_x = np.gradient(surface.height)
    normal = np.stack([-slope_x * per_pixel, -slope_y * per_pixel, np.ones_like(slope_x)])
    normal /= np.sqrt((normal**2).sum(axis=0))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.05)
    light = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ],
        dtype=np.float32,
    )
    halfway = light + np.array([0, 0, 1], dtype=np.float32)
    halfway /= np.linalg.norm(halfway)
    # Over the sine of the elevation: flat material is as bright under any light.
    diffuse = np.clip(np.tensordot(light, normal, 1), 0, None) / light[2]
    highlight = np.clip(np.tensordot(halfway, normal, 1), 0, 1) ** 24
    ambient = rng.uniform(0.25, 0.45)
    shading = ambient + (1 - ambient) * diffuse
    lit: Field = surface.colour * shading[..., None]
    lit += (0.5 * surface.gloss * highlight)[..., None]
    return lit


def _tilted(lit: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """The middle of the canvas, turned by up to 12 degrees, moved and seen at a slight angle."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    angle, zoom = rng.uniform(-0.2, 0.2), rng.uniform(0.92, 1.04)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = corners @ turn * zoom + rng.uniform(-0.04, 0.04, (4, 2))
    source = (seen / CANVAS_SIDE + 0.5) * lit.width
    target = (corners + 0.5) * size
    view = lit.transform(
        (size, size),
        Image.Transform.PERSPECTIVE,
        _perspective(target, source),
        Image.Resampling.BICUBIC,
    )
    # A quarter turn: which way up a plate lies under the camera means nothing.
    return Image.fromarray(np.rot90(np.asarray(view), int(rng.integers(4))).copy())


def _perspective(
    target: npt.NDArray[np.float64], source: npt.NDArray[np.float64]
) -> tuple[float, ...]:
    """The eight numbers that map `target` corners (4, 2) to `source` corners, as Pillow wants."""
    equations, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        equations.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        equations.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    return tuple(np.linalg.solve(np.array(equations), np.array(values)))


def _developed(picture: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Uneven light, vignette, white balance, exposure and noise; uint8 (size, size, 3)."""
    size = picture.shape[0]
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    direction = rng.uniform(0, 2 * np.pi)
    gradient = 1 + rng.uniform(0, 0.25) * (x * np.cos(direction) + y * np.sin(direction))
    vignette = 1 - rng.uniform(0.03, 0.18) * (x**2 + y**2) / 2 * 1.5
    balance = rng.uniform(0.94, 1.06, 3)
    exposure = rng.uniform(0.8, 1.15)
    lit = picture * (gradient * vignette * exposure)[..., None] * balance
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    strength = rng.uniform(0.008, 0.022)
    # Shot noise grows with the root of the light, read noise does not.
    noisy = lit + grain * strength * np.sqrt(0.25 + np.clip(lit, 0, 1))
    return _to_bytes(noisy.astype(np.float32))

"""The resize as matrices gives what Pillow gives, for every framing, filter and size."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from taxon.models.frame import FrameModule
from taxon.preprocessing import Preprocessing
from taxon.preprocessing.resampling import frame_resize, resampling_matrix
from taxon.preprocessing.spec import Interpolation, ResizeMode
from taxon.preprocessing.transform import resize, to_chw

SIDES = st.integers(8, 150)


@settings(max_examples=150, deadline=None)
@given(
    frame=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    mode=st.sampled_from(get_args(ResizeMode)),
    interpolation=st.sampled_from(get_args(Interpolation)),
    seed=st.integers(0, 1000),
)
def test_matrices_resize_as_pillow_does(
    frame: tuple[int, int],
    size: tuple[int, int],
    mode: ResizeMode,
    interpolation: Interpolation,
    seed: int,
) -> None:
    spec = Preprocessing(height=size[1], width=size[0], resize=mode, interpolation=interpolation)
    noise = np.random.default_rng(seed).integers(0, 256, (frame[1], frame[0], 3), dtype=np.uint8)
    expected = to_chw(resize(Image.fromarray(noise), spec)).astype(float)
    actual = frame_resize(frame, spec)(noise.transpose(2, 0, 1).astype(np.float32))
    # One level after the first pass may become two after the second, whose weights exceed 1.
    assert np.abs(actual - expected).max() <= 2
    assert np.abs(actual - expected).mean() < 0.5


def test_rows_of_a_matrix_sum_to_one_around_their_places() -> None:
    for interpolation in get_args(Interpolation):
        matrix = resampling_matrix(50, 20, (3.5, 41.0), interpolation)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
        centres = matrix @ (np.arange(50) + 0.5)
        np.testing.assert_allclose(centres, 3.5 + (np.arange(20) + 0.5) * 37.5 / 20, atol=0.1)


@pytest.mark.parametrize("frame", [(60, 40), (40, 90)])
def test_module_is_the_same_resize(frame: tuple[int, int]) -> None:
    class Identity(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (images,)

    spec = Preprocessing(height=32, width=32, resize="pad")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, frame[1], frame[0]), dtype=np.uint8)
    module = FrameModule(Identity(), frame, spec)  # type: ignore[arg-type]
    (actual,) = module(torch.from_numpy(pictures))
    np.testing.assert_allclose(actual.numpy(), frame_resize(frame, spec)(pictures), atol=1)

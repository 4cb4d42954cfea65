"""Pictures are cropped in their middle and averaged down."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.media.frames import enlarged, fitted_frames


def test_a_square_of_the_right_size_is_left_alone() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(fitted_frames(frames, 16, 16), frames)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (32, 33)])
def test_the_middle_is_kept(height: int, width: int) -> None:
    frames = np.zeros((1, height, width, 3), np.uint8)
    top, left, side = (height - min(height, width)) // 2, (width - min(height, width)) // 2, min(height, width)
    frames[:, top : top + side, left : left + side] = 200
    found = fitted_frames(frames, 16, 16)
    assert found.shape == (1, 16, 16, 3)
    assert found[:, 1:-1, 1:-1].min() >= 199
    assert found.min() >= 150  # half a pixel of black may enter where the middle is not on the grid


def test_shrinking_averages_and_does_not_alias() -> None:
    # Stripes one pixel wide are grey from afar; picking pixels instead would leave black or white.
    frames = np.zeros((1, 96, 96, 3), np.uint8)
    frames[:, :, ::2] = 255
    found = fitted_frames(frames, 16, 16)[:, 2:-2, 2:-2]
    assert 120 <= found.min() <= found.max() <= 135


def test_left_stays_left_and_red_stays_red() -> None:
    frames = np.zeros((1, 40, 60, 3), np.uint8)
    frames[:, :, :30, 0] = 255
    found = fitted_frames(frames, 8, 8)[0]
    assert found[:, :3, 0].min() > 200
    assert found[:, 5:].max() < 50
    assert found[:, :, 1:].max() == 0


def test_enlarging_repeats_pixels_and_nothing_else() -> None:
    small = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    large = enlarged(small, target=13)
    assert large.shape == (2, 12, 12, 3)
    np.testing.assert_array_equal(large[:, ::3, ::3], small)
    np.testing.assert_array_equal(large[:, 2::3, 1::3], small)
    np.testing.assert_array_equal(enlarged(small, target=3), small)

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.curation.signals import frozen_share, motion_curve, motion_peak, motion_peaks
from soundstage.curation.signals.motion import CHROMA_GRID, block_means, colour_block_means
from tests.unit.curation.makers import FPS, pulses


def test_motion_curve_is_the_mean_absolute_difference() -> None:
    frames = np.zeros((3, 8, 10), np.uint8)
    frames[1, :4] = 255
    frames[2] = frames[1]
    np.testing.assert_allclose(motion_curve(frames), [0.5, 0.0])


def test_a_difference_that_wraps_in_bytes_is_counted_fully() -> None:
    frames = np.stack([np.full((8, 8), 250, np.uint8), np.full((8, 8), 5, np.uint8)])
    np.testing.assert_allclose(motion_curve(frames), [245 / 255])


@pytest.mark.parametrize("size", [(8, 8), (48, 85), (50, 49)], ids=str)
def test_block_means_are_those_of_the_definition(size: tuple[int, int]) -> None:
    """More frames than are worked on at a time, in sizes that the grid does and does not divide."""
    frames = np.random.default_rng(0).integers(0, 255, (70, *size), dtype=np.uint8)
    difference = np.abs(np.diff(frames.astype(int), axis=0))
    rows, columns = (np.linspace(0, length, 9).astype(int) for length in size)
    expected = [
        [difference[:, top:bottom, left:right].mean(axis=(1, 2)) for left, right in pairwise(columns)]
        for top, bottom in pairwise(rows)
    ]
    np.testing.assert_allclose(block_means(frames), np.moveaxis(expected, -1, 0), rtol=1e-12)
    np.testing.assert_allclose(motion_curve(frames), difference.mean(axis=(1, 2)) / 255, rtol=1e-12)


def test_frozen_share_counts_equal_pairs() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16), dtype=np.uint8)
    repeated = np.repeat(frames, 2, axis=0)
    assert frozen_share(motion_curve(repeated)) == pytest.approx(5 / 9)
    assert frozen_share(motion_curve(frames[:1])) == 1.0


def test_motion_peak_sees_a_small_moving_thing_and_not_a_trembling_picture() -> None:
    moving = np.full((50, 48, 48), 100, np.uint8)
    moving[::5, :6, :6] = 200
    rng = np.random.default_rng(0)
    trembling = (100 + rng.integers(-1, 2, (50, 48, 48))).astype(np.uint8)
    assert motion_curve(moving).mean() * 255 < 1
    assert motion_peak(moving) == pytest.approx(100 / 255)
    assert motion_peak(trembling) < 1.5 / 255


def test_peaks_lie_where_something_jumps() -> None:
    frames = pulses([0.5, 1.5], 2.5)
    peaks = motion_peaks(motion_curve(frames), FPS)
    np.testing.assert_allclose(peaks, [0.5, 1.5], atol=1 / FPS)
    assert len(motion_peaks(motion_curve(np.full((9, 8, 8), 7, np.uint8)), FPS)) == 0


def _coloured(chroma: dict[int, tuple[float, float]], length: int = 24) -> NDArray[np.uint8]:
    """(T, 2, 16, 16) colour of grey pictures in which a corner takes (Cb, Cr) at the given frames for three frames."""
    picture = np.full((length, 2, CHROMA_GRID, CHROMA_GRID), 128, np.uint8)
    for first, values in chroma.items():
        picture[first : first + 3, :, :4, :4] = np.array(values)[:, None, None]
    return picture


def test_a_thing_that_moves_in_colour_alone_moves() -> None:
    grey = np.full((24, 48, 48), 100, np.uint8)
    chroma = _coloured({4: (128, 168), 12: (108, 128)})
    colour = colour_block_means(chroma)
    # Twice the larger difference of the two, in the corner's 2 x 2 blocks and nowhere else.
    expected = np.zeros((23, 8, 8))
    expected[[3, 6], :2, :2] = 80
    expected[[11, 14], :2, :2] = 40
    np.testing.assert_allclose(colour, expected)
    assert frozen_share(motion_curve(grey)) == 1
    assert frozen_share(motion_curve(grey), colour) == pytest.approx(19 / 23)
    assert motion_peak(grey) == 0
    assert motion_peak(grey, colour=colour) == pytest.approx(np.percentile([80, 80, 40, 40] + [0] * 19, 98) / 255)

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace

from soundstage.curation.signals import black_share, letterbox_share, sharpness

NOISE = np.random.default_rng(0).integers(0, 255, (5, 24, 40), dtype=np.uint8)


def test_black_share() -> None:
    frames = np.zeros((4, 8, 8), np.uint8)
    frames[3] = 30
    assert black_share(frames) == 0.75


def test_sharpness_is_the_median_variance_of_scipys_laplacian() -> None:
    expected = np.median([laplace(frame.astype(float))[1:-1, 1:-1].var() for frame in NOISE])
    assert sharpness(NOISE) == pytest.approx(expected, rel=1e-5)


def test_a_blurred_picture_is_less_sharp_and_a_plain_one_not_at_all() -> None:
    blurred = np.stack([gaussian_filter(frame, 1.5) for frame in NOISE])
    assert sharpness(blurred) < 0.02 * sharpness(NOISE)
    assert sharpness(np.full((3, 24, 40), 90, np.uint8)) == 0.0
    assert sharpness(np.full((3, 2, 40), 90, np.uint8)) == 0.0


def _with_bars(top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    frames = np.clip(NOISE, 40, None)
    height, width = frames.shape[1:]
    framed = np.full_like(frames, 12)
    framed[:, top : height - bottom, left : width - right] = frames[:, top : height - bottom, left : width - right]
    return framed


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        ((0, 0, 0, 0), 0.0),
        ((3, 3, 0, 0), 6 / 24),
        ((0, 0, 5, 5), 10 / 40),
        ((3, 0, 0, 10), 1 - (21 * 30) / (24 * 40)),
    ],
    ids=["none", "letterbox", "pillarbox", "above and right"],
)
def test_bars_are_measured_by_area(bars: tuple[int, int, int, int], expected: float) -> None:
    assert letterbox_share(_with_bars(*bars)) == pytest.approx(expected)


def test_what_is_no_bar() -> None:
    passing = np.clip(NOISE, 40, None)
    passing[:3, :6] = 0  # dark in three of five frames only
    assert letterbox_share(passing) == 0.0
    subtitled = _with_bars(0, 6, 0, 0)
    subtitled[:, -3, 10:30] = 230
    assert letterbox_share(subtitled) == pytest.approx(2 / 24)
    assert letterbox_share(np.zeros((4, 24, 40), np.uint8)) == 0.0

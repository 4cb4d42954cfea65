"""Motion correlation against NumPy and against cases whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.evaluation.metrics.motion import motion_correlation, motion_energy


def noise(seed: int, frames: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (frames, 8, 6, 3), dtype=np.uint8)


def flashing(levels: list[int]) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 4, 4, 3)).copy()


def test_energy_is_the_mean_change_of_luma() -> None:
    video = noise(0)
    expected = []
    for before, after in pairwise(video):
        total = 0.0
        for y, x in np.ndindex(8, 6):
            red, green, blue = after[y, x].astype(float) - before[y, x].astype(float)
            total += abs(0.299 * red + 0.587 * green + 0.114 * blue) / 255
        expected.append(total / 48)
    assert motion_energy(video) == pytest.approx(expected)
    assert motion_energy(flashing([0, 255, 255, 0])) == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_correlation_is_pearsons(seed: int) -> None:
    found, truth = noise(seed), noise(seed + 50)
    wanted = np.corrcoef(motion_energy(found), motion_energy(truth))[0, 1]
    assert motion_correlation(found, truth) == pytest.approx(wanted, abs=1e-12)


def test_the_same_motion_scores_one_whatever_its_size_and_look() -> None:
    truth, weaker = flashing([0, 200, 0, 0, 100, 0, 0]), flashing([50, 90, 50, 50, 70, 50, 50])
    assert motion_correlation(truth, truth) == pytest.approx(1)
    assert motion_correlation(weaker, truth) == pytest.approx(1)
    assert motion_correlation(255 - truth, truth) == pytest.approx(1)


def test_motion_at_the_wrong_moments_scores_below_zero() -> None:
    truth, late = flashing([0, 200, 200, 200, 200, 0, 0, 0]), flashing([0, 0, 0, 200, 200, 200, 200, 0])
    score = motion_correlation(late, truth)
    assert score is not None
    assert score < 0


def test_a_video_that_does_not_move_follows_nothing() -> None:
    assert motion_correlation(flashing([90] * 5), flashing([0, 9, 0, 0, 9])) == 0.0


@pytest.mark.parametrize("truth", [[90] * 5, [0, 50, 100, 150, 200]], ids=["still", "evenly moving"])
def test_without_motion_to_follow_there_is_no_score(truth: list[int]) -> None:
    assert motion_correlation(flashing([0, 9, 0, 0, 9]), flashing(truth)) is None


def test_videos_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="videos of 4 and 5 frames"):
        motion_correlation(flashing([0] * 4), flashing([0] * 5))

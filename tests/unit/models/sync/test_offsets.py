"""Correlation over lags, interpolation and peaks, against numpy in float64 and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.models.sync.offsets import at_steps, lag_correlation, peak_offset

# What the floor under the product of norms may take from a correlation of sequences of ordinary size.
FLOOR = 2e-3


def by_hand(video: NDArray[np.float64], audio: NDArray[np.float64], reach: int, least: int) -> NDArray[np.float64]:
    """Step by step: the video's vector of step t with the audio's of step t + lag."""
    steps = video.shape[-1]
    result = np.full((len(video), len(audio), 2 * reach + 1), -1.0)
    for i, v in enumerate(video):
        for j, a in enumerate(audio):
            for lag in range(-reach, reach + 1):
                common = [t for t in range(steps) if 0 <= t + lag < steps]
                if len(common) < least:
                    continue
                x = np.stack([v[:, t] for t in common])
                y = np.stack([a[:, t + lag] for t in common])
                x, y = x - x.mean(0), y - y.mean(0)
                result[i, j, lag + reach] = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
    return result


@pytest.mark.parametrize(
    ("videos", "audios", "dim", "steps", "reach", "least"),
    [(1, 1, 1, 9, 3, 4), (2, 3, 5, 17, 6, 5), (3, 2, 8, 12, 11, 2), (1, 4, 2, 30, 0, 7)],
    ids=["one channel", "several", "to the last two steps", "no lag"],
)
def test_every_lag_is_that_of_a_loop_in_float64(
    videos: int, audios: int, dim: int, steps: int, reach: int, least: int
) -> None:
    rng = np.random.default_rng(steps)
    video, audio = rng.normal(1.0, 2.0, (videos, dim, steps)), rng.normal(-3.0, 2.0, (audios, dim, steps))
    found = lag_correlation(torch.from_numpy(video).float(), torch.from_numpy(audio).float(), reach, least)
    assert found.shape == (videos, audios, 2 * reach + 1)
    np.testing.assert_allclose(found.numpy(), by_hand(video, audio, reach, least), atol=FLOOR)


def test_one_channel_without_lag_is_pearsons_correlation() -> None:
    video, audio = np.random.default_rng(0).normal(size=(2, 40)).cumsum(1)
    found = lag_correlation(torch.from_numpy(video)[None, None], torch.from_numpy(audio)[None, None], 0, 2)
    assert found.item() == pytest.approx(np.corrcoef(video, audio)[0, 1], abs=1e-4)


@pytest.mark.parametrize("late", [-4, -1, 0, 3, 5])
def test_late_sound_peaks_at_a_positive_lag(late: int) -> None:
    source = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 60)))
    video, audio = source[..., 10:50], source[..., 10 - late : 50 - late]
    correlations = lag_correlation(video, audio, 6, 10)[0, 0]
    assert int(correlations.argmax()) - 6 == late
    assert correlations.max().item() == pytest.approx(1.0, abs=FLOOR)


def test_lags_with_too_little_in_common_are_not_measured() -> None:
    sequence = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 2, 10)))
    found = lag_correlation(sequence, sequence, 9, 6)[0, 0]
    assert [lag for lag in range(-9, 10) if found[lag + 9] == -1.0] == [-9, -8, -7, -6, -5, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_what_does_not_vary_correlates_with_nothing(level: float) -> None:
    moving = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 4, 20)))
    still = torch.full_like(moving, level, requires_grad=True)
    found = lag_correlation(moving, still, 4, 5)
    assert found.abs().max() < 1e-9
    found.sum().backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()


def test_vectors_between_times_are_interpolated_as_numpy_does() -> None:
    rng = np.random.default_rng(4)
    vectors, times = rng.normal(size=(2, 3, 11)), np.array([0.0, 0.004, 0.01, 0.0633, 0.1, 0.2, -0.05])
    found = at_steps(torch.from_numpy(vectors), 0.01, torch.from_numpy(times)).numpy()
    places = np.arange(11) * 0.01
    expected = [[np.interp(times, places, channel) for channel in item] for item in vectors]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_single_vector_holds_at_all_times() -> None:
    found = at_steps(torch.tensor([[[2.0], [3.0]]]), 0.01, torch.tensor([0.0, 0.5]))
    assert found.tolist() == [[[2.0, 2.0], [3.0, 3.0]]]


@pytest.mark.parametrize("vertex", [-2.3, -0.5, 0.0, 0.25, 1.49, 3.0])
def test_the_vertex_of_a_parabola_is_found(vertex: float) -> None:
    scores = 0.9 - 0.01 * (torch.arange(-5, 6, dtype=torch.float64) - vertex) ** 2
    best, offset_sec = peak_offset(scores, 5, fps=20.0)
    assert abs(best - 5 - vertex) <= 0.5
    assert offset_sec == pytest.approx(vertex / 20, abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.2, 0.1, 0.0, -0.1], -2.0),
        ([0.0, 0.1, 0.2, 0.3, 0.8], 2.0),
        ([-1.0, 0.9, 0.5, 0.1, -1.0], -1.0),
        ([0.5, 0.5, 0.5, 0.5, 0.5], -2.0),
    ],
    ids=["first", "last", "beside one never measured", "flat"],
)
def test_a_peak_without_both_neighbours_stays_on_its_lag(scores: list[float], expected: float) -> None:
    assert peak_offset(torch.tensor(scores), 2, fps=1.0)[1] == expected

"""Sound is cut to the sample and resampled to what a law says."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.media.sound import cut_sound, resample

RATE = 1000


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0.0, 0.004, [1, 2, 3, 4]),
        (0.002, 0.003, [3, 4, 5]),
        (-0.002, 0.004, [0, 0, 1, 2]),
        (0.008, 0.004, [9, 10, 0, 0]),
        (-0.001, 0.012, [0, *range(1, 11), 0]),
        (5.0, 0.003, [0, 0, 0]),
        (-5.0, 0.003, [0, 0, 0]),
    ],
)
def test_a_cut_holds_the_span_and_silence_around(start: float, length: float, expected: list[int]) -> None:
    sound = np.arange(1, 11, dtype=np.float32)
    assert cut_sound(sound, RATE, start, length).tolist() == expected


def test_equal_lengths_whatever_the_start() -> None:
    # Windows of a batch are stacked: rounding must not make one a sample longer.
    sound = np.ones(50_000, np.float32)
    lengths = {len(cut_sound(sound, 16000, start, 2.6)) for start in np.random.default_rng(0).uniform(-1, 3, 200)}
    assert lengths == {round(2.6 * 16000)}


@pytest.mark.parametrize("target", [16000, 22050, 48000])
def test_a_tone_keeps_pitch_level_and_time(target: int) -> None:
    def tone(rate: int) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)

    found = resample(tone(44100), 44100, target)
    assert found.dtype == np.float32
    assert abs(len(found) - target) <= 1
    edge = target // 20  # the filter has nothing to look at beyond the ends
    np.testing.assert_allclose(found[edge : target - edge], tone(target)[edge : target - edge], atol=2e-3)


def test_the_same_rate_is_the_same_sound() -> None:
    sound = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert resample(sound, 16000, 16000) is sound

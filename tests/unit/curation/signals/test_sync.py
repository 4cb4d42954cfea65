import numpy as np
import pytest

from soundstage.curation.signals import av_align, best_offset, motion_curve, onset_envelope, sync
from tests.unit.curation.makers import FPS, RATE, clicks, irregular, pulses


@pytest.mark.parametrize(
    ("onsets", "peaks", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [1.04, 3.0], 1 / 3),
        ([1.0], [], 0.0),
        ([1.0, 1.02, 1.04], [1.02], 1 / 3),  # one peak serves one onset
        ([1.0], [0.96, 1.0, 1.04], 1 / 3),
        ([1.0, 1.05], [1.04, 1.09], 1.0),  # nearest-first pairing would match 1.05 with 1.04 and lose the rest
        ([1.0], [1.0 + 1 / 24], 1.0),  # the tolerance itself still counts
        ([1.0], [1.05], 0.0),
        ([], [], None),
    ],
)
def test_av_align_of_hand_made_cases(onsets: list[float], peaks: list[float], expected: float | None) -> None:
    value = av_align(onsets, peaks, tolerance_sec=1 / 24)
    assert value == (None if expected is None else pytest.approx(expected))


def test_av_align_never_exceeds_one_and_is_symmetric() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = rng.uniform(0, 2, rng.integers(0, 40)).tolist()
        b = rng.uniform(0, 2, rng.integers(1, 40)).tolist()
        value = av_align(a, b, 1 / 24)
        assert value is not None
        assert 0.0 <= value <= 1.0
        assert value == pytest.approx(av_align(b, a, 1 / 24))


def _offset_of(late_sec: float, motion_seed: int = 3, sound_seed: int | None = None, seconds: float = 5.0):  # type: ignore[no-untyped-def]
    shown = irregular(seconds, motion_seed)
    heard = shown if sound_seed is None else irregular(seconds, sound_seed)
    sound = clicks([t + late_sec for t in heard], seconds)
    return best_offset(motion_curve(pulses(shown, seconds)), FPS, onset_envelope(sound, RATE), 1.2)


@pytest.mark.parametrize("late_sec", [-0.9, -0.4, -0.1, 0.0, 0.07, 0.35, 1.0])
def test_a_planted_offset_is_found_within_40_ms(late_sec: float) -> None:
    found = _offset_of(late_sec)
    assert found.offset_sec == pytest.approx(late_sec, abs=0.04)
    assert found.correlation > 0.6
    assert found.confidence > 1.2


def test_offsets_are_finer_than_a_frame() -> None:
    base = _offset_of(0.0).offset_sec
    moves = [_offset_of(late).offset_sec - base for late in (0.013, 0.026, 0.039)]
    np.testing.assert_allclose(moves, [0.013, 0.026, 0.039], atol=0.006)


def test_the_sound_of_other_events_correlates_less() -> None:
    own = [_offset_of(0.0, seed).correlation for seed in range(6)]
    other = [_offset_of(0.0, seed, seed + 50).correlation for seed in range(6)]
    assert min(own) > max(other)


def test_without_sound_motion_or_length_there_is_no_offset() -> None:
    curve = motion_curve(pulses([0.5, 1.1], 2.0))
    sound = onset_envelope(clicks([0.5, 1.1], 2.0), RATE)
    silence = onset_envelope(np.zeros(2 * RATE, np.float32), RATE)
    assert best_offset(curve, FPS, silence, 1.0) is None
    assert best_offset(np.zeros_like(curve), FPS, sound, 1.0) is None
    assert best_offset(curve[:10], FPS, sound, 1.0) is None


def test_every_lag_has_the_correlation_of_numpy() -> None:
    rng = np.random.default_rng(0)
    motion, sound = np.cumsum(rng.normal(size=(2, 300)), axis=1) + 50
    found = sync._correlations(motion, sound, 120)
    for lag, value in zip(range(-120, 121), found, strict=True):
        a = motion[max(0, -lag) : 300 - max(0, lag)]
        b = sound[max(0, lag) : 300 - max(0, -lag)]
        assert value == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)


def test_a_common_time_without_any_change_has_no_correlation() -> None:
    motion, sound = np.zeros(300), np.zeros(300)
    motion[250:], sound[:40] = 1.0, 1.0
    found = sync._correlations(motion, sound, 120)
    # At a lag of 120 values the step of the motion meets nothing of the sound.
    assert found[-1] == 0.0
    assert np.isfinite(found).all()

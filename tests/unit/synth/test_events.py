"""Events are irregular unless they are to be periodic, their pulse is short, and their offset is told or is not."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.synth.events import (
    MAX_PERIOD_SEC,
    MIN_GAP_SEC,
    MIN_PERIOD_SEC,
    NO_EVENTS,
    RELEASE_SEC,
    SMOOTHING_SEC,
    Events,
    draw_events,
    draw_periodic_events,
    is_offset_identifiable,
)


@pytest.mark.parametrize(("duration_sec", "wanted"), [(4.0, 2), (2.0, 2), (1.0, 1)])
def test_something_happens_within_every_clip(duration_sec: float, wanted: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        times = draw_events(rng, duration_sec).times_sec
        assert np.count_nonzero((times >= 0) & (times + RELEASE_SEC <= duration_sec)) >= wanted


@pytest.mark.parametrize("seed", range(5))
def test_events_cover_the_clip_and_its_surroundings_without_touching(seed: int) -> None:
    events = draw_events(np.random.default_rng(seed), 4.0)
    gaps = np.diff(events.times_sec)
    assert gaps.min() >= MIN_GAP_SEC > RELEASE_SEC
    assert gaps.std() > 0.1
    # A sound shifted by up to two seconds still has events at both ends.
    assert events.times_sec[0] < -1.0
    assert events.times_sec[-1] >= 6.0
    assert ((events.strengths >= 0.7) & (events.strengths <= 1.0)).all()


def test_a_pulse_rises_at_its_event_and_is_soon_over() -> None:
    events = Events(np.array([1.0, 2.0]), np.array([1.0, 0.8]))
    at = np.array([0.0, 0.999, 1.0, 1.01, 1.02, 1.1, 1.13, 1.17, 1.21, 1.5, 2.05])
    assert events.displacement(at) == pytest.approx([0, 0, 0, 0.5, 1, 1, 1, 0.5, 0, 0, 0.8])
    assert events.shifted(0.3).displacement(at + 0.3) == pytest.approx(events.displacement(at))
    assert not Events(np.zeros(0), np.zeros(0)).displacement(at).any()


def train(*times: float) -> Events:
    return Events(np.array(times), np.ones(len(times)))


@pytest.mark.parametrize("seed", range(5))
def test_periodic_events_keep_one_gap_and_one_strength(seed: int) -> None:
    events = draw_periodic_events(np.random.default_rng(seed), 4.0)
    gaps = np.diff(events.times_sec)
    assert gaps == pytest.approx(np.full(len(gaps), gaps[0]))
    assert MIN_PERIOD_SEC <= gaps[0] <= MAX_PERIOD_SEC
    assert len(set(events.strengths)) == 1
    assert events.times_sec[0] <= -2.0
    assert events.times_sec[-1] >= 6.0 - gaps[0]


@pytest.mark.parametrize("duration_sec", [2.2, 3.0, 4.0, 12.0])
def test_no_periodic_train_is_identifiable_however_short(duration_sec: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        events = draw_periodic_events(rng, duration_sec)
        assert not is_offset_identifiable(events, events, rng.uniform(-1, 1), duration_sec)


IRREGULAR = train(0.3, 0.8, 1.9, 2.45, 3.6)


@pytest.mark.parametrize(
    ("shown", "heard", "late_sec", "wanted"),
    [
        pytest.param(IRREGULAR, IRREGULAR, 0.0, True, id="irregular"),
        pytest.param(IRREGULAR, IRREGULAR, 0.35, True, id="irregular-late"),
        pytest.param(IRREGULAR, IRREGULAR, -0.7, True, id="irregular-early"),
        pytest.param(train(0.5, 1.5, 2.5, 3.5), train(0.5, 1.5, 2.5, 3.5), 0.0, False, id="every-second"),
        pytest.param(IRREGULAR, NO_EVENTS, 0.0, False, id="silent"),
        pytest.param(NO_EVENTS, IRREGULAR, 0.0, False, id="still"),
        pytest.param(train(0.4, 1.3), train(0.4, 1.3), 0.0, False, id="two-events"),
        pytest.param(IRREGULAR, IRREGULAR.shifted(0.2), 0.0, False, id="another-train"),
        pytest.param(train(-0.5, 0.3, 1.9, 4.2), train(-0.5, 0.3, 1.9, 4.2), 0.0, False, id="outside-the-file"),
        pytest.param(IRREGULAR, train(0.3, 0.8, 1.9, 3.25, 3.75), 0.0, True, id="cut-after-three"),
        pytest.param(train(0.3, 0.8, 1.9, 2.65, 3.3, 3.9), train(0.3, 0.8, 1.9), 0.0, True, id="more-seen-than-heard"),
        pytest.param(train(0.5, 1.0, 2.1, 2.6, 3.7), train(0.5, 1.0, 2.1), 0.0, False, id="two-pairs-alike"),
    ],
)
def test_identifiable_trains(shown: Events, heard: Events, late_sec: float, wanted: bool) -> None:
    assert is_offset_identifiable(shown, heard, late_sec, 4.0) is wanted


@pytest.mark.parametrize("late_sec", [0.0, 0.41, -0.83])
def test_identifiability_agrees_with_sampled_trains(late_sec: float) -> None:
    """The same definition, computed from smoothed signals with numpy's correlation instead of the closed form."""
    rate, duration_sec = 1000, 4.0
    rng = np.random.default_rng(17)
    grid = np.arange(-rate, round((duration_sec + 1) * rate)) / rate

    def smooth(events: Events) -> np.ndarray:
        bumps = np.exp(-((grid[:, None] - events.times_sec) ** 2) / (2 * SMOOTHING_SEC**2))
        return bumps @ events.strengths

    judged = 0
    for _ in range(60):
        events = draw_events(rng, duration_sec)
        picture = events.between(0.0, duration_sec)
        sound = events.shifted(late_sec).between(0.0, duration_sec)
        full = np.correlate(smooth(sound), smooth(picture), "full")
        lags = (np.arange(len(full)) - len(grid) + 1) / rate
        near = np.abs(lags) <= 1.2
        ratio = full[near] / (1 - np.abs(lags[near]) / duration_sec)
        at_truth = ratio[np.abs(lags[near] - late_sec).argmin()]
        rival = ratio[np.abs(lags[near] - late_sec) > 0.15].max() / at_truth
        if abs(rival - 0.75) < 0.01:
            continue  # a grid ten times as fine may decide otherwise
        judged += 1
        shared = int(((picture.times_sec + late_sec >= 0) & (picture.times_sec + late_sec < duration_sec)).sum())
        assert is_offset_identifiable(events, events, late_sec, duration_sec) is bool(rival < 0.75 and shared >= 3)
    assert judged > 40

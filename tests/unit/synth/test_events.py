"""Events are irregular, and their pulse marks one short moment."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.synth.events import MIN_GAP_SEC, RELEASE_SEC, Events, draw_events


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

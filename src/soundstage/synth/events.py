"""When things happen: event times, the pulse by which an event shows, and whether they tell one offset only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A pulse rises in 20 ms, holds, and is over after 210 ms: at half height it lasts 160 ms, about one frame at 6 fps,
# so motion marks its event and nothing else.
ATTACK_SEC, HOLD_SEC, RELEASE_SEC = 0.02, 0.13, 0.21
MIN_GAP_SEC = 0.42
MEAN_EXTRA_GAP_SEC = 0.4
MIN_PERIOD_SEC, MAX_PERIOD_SEC = 0.35, 0.6
# Events reach this far beyond both ends of a file: a shifted sound track has sound at both ends.
_MARGIN_SEC = 2.0

SMOOTHING_SEC = 0.05
MAX_RIVAL_SHARE = 0.75
MIN_SHARED_EVENTS = 3
_SEARCH_SEC, _PEAK_REACH_SEC, _LAG_STEP_SEC = 1.2, 0.15, 0.01


@dataclass(frozen=True)
class Events:
    """Sounding events: `times_sec` ascending, `strengths` in 0.7..1, equally long."""

    times_sec: NDArray[np.float64]
    strengths: NDArray[np.float64]

    def shifted(self, by_sec: float) -> Events:
        """The same events, later by `by_sec`."""
        return Events(self.times_sec + by_sec, self.strengths)

    def between(self, begin_sec: float, end_sec: float) -> Events:
        """Those with `begin_sec` <= time < `end_sec`."""
        inside = (self.times_sec >= begin_sec) & (self.times_sec < end_sec)
        return Events(self.times_sec[inside], self.strengths[inside])

    def followed_by(self, later: Events) -> Events:
        """These and then `later`, whose events must all come after them."""
        return Events(
            np.concatenate([self.times_sec, later.times_sec]), np.concatenate([self.strengths, later.strengths])
        )

    def displacement(self, at_sec: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the object is displaced, 0..1, at each of the times `at_sec` (T,)."""
        elapsed = at_sec[:, None] - self.times_sec[None, :]
        pulse = np.interp(elapsed, [0.0, ATTACK_SEC, HOLD_SEC, RELEASE_SEC], [0.0, 1.0, 1.0, 0.0], left=0.0, right=0.0)
        return np.asarray((pulse * self.strengths).max(axis=1, initial=0.0))


NO_EVENTS = Events(np.zeros(0), np.zeros(0))
_TWO_EVENTS_FROM_SEC = 2.0


def draw_events(rng: np.random.Generator, duration_sec: float) -> Events:
    """Irregular events: gaps of a fixed minimum plus an exponential part, so no period hides their offset.

    They start before zero and end after `duration_sec`: a shifted sound track has sound at both ends. At least one of
    them, and two from 2 s on, is over within the clip; a train with fewer is drawn again, since a file in which nothing
    happens is silent and still whatever it is called.
    """
    wanted = 2 if duration_sec >= _TWO_EVENTS_FROM_SEC else 1
    while True:
        times = [-_MARGIN_SEC + rng.uniform(0.0, MIN_GAP_SEC + MEAN_EXTRA_GAP_SEC)]
        while times[-1] < duration_sec + _MARGIN_SEC:
            times.append(times[-1] + MIN_GAP_SEC + rng.exponential(MEAN_EXTRA_GAP_SEC))
        events = Events(np.array(times), rng.uniform(0.7, 1.0, len(times)))
        shown = (events.times_sec >= 0) & (events.times_sec + RELEASE_SEC <= duration_sec)
        if np.count_nonzero(shown) >= wanted:
            return events


def draw_periodic_events(rng: np.random.Generator, duration_sec: float) -> Events:
    """Equally strong events at one fixed gap, from before zero to after `duration_sec`: offsets fit modulo the gap."""
    gap_sec = rng.uniform(MIN_PERIOD_SEC, MAX_PERIOD_SEC)
    first_sec = -_MARGIN_SEC - rng.uniform(0.0, gap_sec)
    times = np.arange(first_sec, duration_sec + _MARGIN_SEC, gap_sec)
    return Events(times, np.full(len(times), rng.uniform(0.7, 1.0)))


def is_offset_identifiable(shown: Events, heard: Events, late_sec: float, duration_sec: float) -> bool:
    """Whether picture and sound of a file fit together at their true offset and, nearly as well, at no other.

    `shown` are the picture's events; `heard` those that sound, at the times they would have if the sound were not
    `late_sec` late. Both are cut to what lies within the file. With a_j, p_j the strengths and times of the events in
    the picture, b_k, s_k those in the sound, both smoothed by a Gaussian of sigma = 50 ms, their cross-correlation at
    lag L over the time that both cover is, but for a factor,

        r(L) = sum_jk a_j b_k exp(-(s_k - p_j - L)^2 / (4 sigma^2)) / (1 - |L| / duration)

    The offset is identifiable when at least 3 events are both seen and heard, and no L within +-1.2 s (and within half
    the duration) that is more than 0.15 s from `late_sec` has r(L) > 0.75 r(late_sec). The division by the common time
    keeps a periodic train unidentifiable however few of its events a short file shows.
    """
    picture = shown.between(0.0, duration_sec)
    sound = heard.shifted(late_sec).between(0.0, duration_sec)
    differences = sound.times_sec[None, :] - picture.times_sec[:, None]
    if np.count_nonzero(np.abs(differences - late_sec) < 1e-6) < MIN_SHARED_EVENTS:
        return False
    strengths = picture.strengths[:, None] * sound.strengths[None, :]
    reach_sec = min(_SEARCH_SEC, duration_sec / 2)
    steps = int(reach_sec / _LAG_STEP_SEC + 1e-9)
    lags = np.arange(-steps, steps + 1) * _LAG_STEP_SEC
    rivals = lags[np.abs(lags - late_sec) > _PEAK_REACH_SEC]
    at = np.concatenate([[late_sec], rivals])
    kernel = np.exp(-((differences[None] - at[:, None, None]) ** 2) / (4 * SMOOTHING_SEC**2))
    correlation = (strengths * kernel).sum(axis=(1, 2)) / (1 - np.abs(at) / duration_sec)
    return bool(correlation[1:].max() <= MAX_RIVAL_SHARE * correlation[0])

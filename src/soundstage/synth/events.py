"""When things happen: event times, and the pulse by which an event shows in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A pulse rises in 20 ms, holds, and is over after 210 ms: at half height it lasts 160 ms, about one frame at 6 fps,
# so motion marks its event and nothing else.
ATTACK_SEC, HOLD_SEC, RELEASE_SEC = 0.02, 0.13, 0.21
MIN_GAP_SEC = 0.42
MEAN_EXTRA_GAP_SEC = 0.4


@dataclass(frozen=True)
class Events:
    """Sounding events: `times_sec` ascending, `strengths` in 0.7..1, equally long."""

    times_sec: NDArray[np.float64]
    strengths: NDArray[np.float64]

    def shifted(self, by_sec: float) -> Events:
        """The same events, later by `by_sec`."""
        return Events(self.times_sec + by_sec, self.strengths)

    def displacement(self, at_sec: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the object is displaced, 0..1, at each of the times `at_sec` (T,)."""
        elapsed = at_sec[:, None] - self.times_sec[None, :]
        pulse = np.interp(elapsed, [0.0, ATTACK_SEC, HOLD_SEC, RELEASE_SEC], [0.0, 1.0, 1.0, 0.0], left=0.0, right=0.0)
        return np.asarray((pulse * self.strengths).max(axis=1, initial=0.0))


def draw_events(rng: np.random.Generator, duration_sec: float) -> Events:
    """Irregular events: gaps of a fixed minimum plus an exponential part, so no period hides their offset.

    They start before zero and end after `duration_sec`: a shifted sound track has sound at both ends.
    """
    times = [-2.0 + rng.uniform(0.0, MIN_GAP_SEC + MEAN_EXTRA_GAP_SEC)]
    while times[-1] < duration_sec + 2.0:
        times.append(times[-1] + MIN_GAP_SEC + rng.exponential(MEAN_EXTRA_GAP_SEC))
    return Events(np.array(times), rng.uniform(0.7, 1.0, len(times)))

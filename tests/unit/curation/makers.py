"""Small clips with known answers: a square that appears with a click at known times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FPS = 24
RATE = 16000


def pulses(times_sec: Sequence[float], duration_sec: float, size: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    """(T, size, size) grey frames: on a texture a bright square jumps at each time and glides back in 0.25 s."""
    rng = np.random.default_rng(seed)
    background = np.kron(rng.integers(60, 160, (6, 6)), np.ones((size // 6, size // 6)))
    frames = []
    for t in np.arange(round(duration_sec * FPS)) / FPS:
        picture = background.copy()
        elapsed = min((t - event for event in times_sec if t >= event), default=1.0)
        offset = round(size / 2 * max(0.0, 1 - elapsed / 0.25))
        top, left = size // 3, size // 8 + offset
        picture[top : top + size // 4, left : left + size // 4] = 240
        frames.append(picture)
    return np.stack(frames).astype(np.uint8)


def clicks(times_sec: Sequence[float], duration_sec: float, seed: int = 1) -> NDArray[np.float32]:
    """(samples,) decaying noise bursts at the given times over a quiet hiss."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(scale=0.001, size=round(duration_sec * RATE))
    burst = rng.normal(scale=0.3, size=RATE // 5) * np.exp(-np.arange(RATE // 5) / (0.03 * RATE))
    for time_sec in times_sec:
        first = round(time_sec * RATE)
        begin, end = max(first, 0), min(first + len(burst), len(sound))
        if begin < end:
            sound[begin:end] += burst[begin - first : end - first]
    return np.clip(sound, -1, 1).astype(np.float32)


def irregular(duration_sec: float, seed: int = 3) -> list[float]:
    """Event times without a period: gaps of 0.45 s plus an exponential part."""
    rng = np.random.default_rng(seed)
    times = [float(rng.uniform(0.2, 0.5))]
    while times[-1] < duration_sec - 0.5:
        times.append(times[-1] + 0.45 + float(rng.exponential(0.3)))
    return times[:-1]

"""How events sound: one voice a class, rendered at its event times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from .events import Events

Waveform = NDArray[np.float64]
Voice = Callable[[np.random.Generator, Waveform, float], Waveform]
VOICE_SEC = 0.35


def _decay(t: Waveform, tau_sec: float) -> Waveform:
    return np.asarray(np.exp(-t / tau_sec) * np.minimum(1.0, t / 0.002))


def _partials(t: Waveform, pitch: float, ratios: tuple[float, ...], tau_sec: float) -> Waveform:
    return sum(
        (np.sin(2 * np.pi * pitch * ratio * t) * _decay(t, tau_sec / (1 + 0.3 * index)) / (index + 1))
        for index, ratio in enumerate(ratios)
    ) + np.zeros_like(t)


def _noise_band(rng: np.random.Generator, t: Waveform, low: float, high: float) -> Waveform:
    rate = 1.0 / (t[1] - t[0])
    band = butter(2, [low, min(high, 0.45 * rate)], "bandpass", fs=rate, output="sos")
    return np.asarray(sosfilt(band, rng.normal(size=len(t))))


def thump(rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """A struck skin: a falling low tone and a soft slap."""
    tone = np.sin(2 * np.pi * 90 * pitch * (t + 0.02 * np.exp(-t / 0.03)))
    return np.asarray(tone * _decay(t, 0.1) + 0.4 * _noise_band(rng, t, 200, 1500) * _decay(t, 0.02))


def clank(rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """Struck metal: inharmonic partials and a click."""
    return _partials(t, 900 * pitch, (1.0, 1.52, 2.37, 3.21), 0.07) + 0.5 * _noise_band(rng, t, 3000, 7000) * _decay(
        t, 0.008
    )


def chirp_up(_rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """A rising glide."""
    return np.asarray(np.sin(2 * np.pi * pitch * (350 * t + 1500 * t**2)) * _decay(t, 0.08))


def bell(_rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """A small bell."""
    return _partials(t, 1400 * pitch, (1.0, 2.0, 2.76, 5.4), 0.11)


def click(rng: np.random.Generator, t: Waveform, _pitch: float) -> Waveform:
    """A dry wide-band click."""
    return _noise_band(rng, t, 1000, 7500) * _decay(t, 0.025)


def hiss(rng: np.random.Generator, t: Waveform, _pitch: float) -> Waveform:
    """A puff of air."""
    return _noise_band(rng, t, 300, 2500) * _decay(t, 0.07)


def tweet(_rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """A bird-like trill."""
    phase = 2 * np.pi * pitch * 2600 * t + 14 * np.sin(2 * np.pi * 28 * t)
    return np.asarray(np.sin(phase) * _decay(t, 0.09))


def pluck(_rng: np.random.Generator, t: Waveform, pitch: float) -> Waveform:
    """A plucked string: harmonic partials."""
    return _partials(t, 260 * pitch, (1.0, 2.0, 3.0, 4.0, 5.0), 0.12)


def render_sound(
    rng: np.random.Generator, voice: Voice, events: Events, duration_sec: float, sample_rate: int
) -> NDArray[np.float32]:
    """The sound track of `events`: (samples,) in -1..1, with a little background noise.

    Level and pitch vary from file to file, and slightly from event to event.
    """
    total = round(duration_sec * sample_rate)
    track = rng.normal(scale=rng.uniform(0.0005, 0.003), size=total)
    pitch, gain = rng.uniform(0.85, 1.2), rng.uniform(0.35, 0.8)
    t = np.arange(round(VOICE_SEC * sample_rate)) / sample_rate
    for time_sec, strength in zip(events.times_sec, events.strengths, strict=True):
        sound = voice(rng, t, pitch * rng.uniform(0.98, 1.02))
        sound = sound / max(np.abs(sound).max(), 1e-9) * gain * strength
        first = round(time_sec * sample_rate)
        begin, end = max(first, 0), min(first + len(sound), total)
        if begin < end:
            track[begin:end] += sound[begin - first : end - first]
    return np.clip(track, -1.0, 1.0).astype(np.float32)

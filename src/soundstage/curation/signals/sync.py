"""Does the sound belong to the motion, and at which delay? Two answers that need no learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from .sound import OnsetEnvelope

_RATE = 100.0
_SMOOTHING_SEC = 0.04
_PEAK_REACH_SEC = 0.15
_MIN_OVERLAP_SEC = 1.0
_MIN_DEVIATION = 1e-6
_MIN_VARIATION = 1e-9
_NEARNESS_PER_SEC = 0.1


def av_align(onsets_sec: Sequence[float], peaks_sec: Sequence[float], tolerance_sec: float) -> float | None:
    """Audio-visual event agreement, 0..1: matches / (onsets + peaks - matches); None without any event.

    An onset and a motion peak match when they lie within `tolerance_sec` (one frame of the video) of each other; each
    event matches at most once, so the value is an intersection over union and cannot exceed 1 (AV-Align, Yariv et al.,
    "Diverse and Aligned Audio-to-Video Generation", 2023, here with grey-level motion in place of optical flow). It
    knows nothing of a constant delay, and a dense pair of event lists agrees by chance.
    """
    onsets, peaks = sorted(onsets_sec), sorted(peaks_sec)
    if not onsets and not peaks:
        return None
    matches = i = j = 0
    # Earliest with earliest is a largest one-to-one matching of points on a line under a common tolerance.
    while i < len(onsets) and j < len(peaks):
        distance = onsets[i] - peaks[j]
        if abs(distance) <= tolerance_sec + 1e-9:
            matches, i, j = matches + 1, i + 1, j + 1
        elif distance < 0:
            i += 1
        else:
            j += 1
    return matches / (len(onsets) + len(peaks) - matches)


@dataclass(frozen=True)
class Offset:
    """By how much the sound lies behind the motion, and how sure that is."""

    offset_sec: float
    """positive: the sound is late"""
    correlation: float
    """Pearson correlation at that offset, -1..1"""
    confidence: float
    """the correlation over the best one that belongs to another peak"""


@dataclass(frozen=True)
class LagCurve:
    """Correlation of motion and sound at every delay."""

    offsets_sec: NDArray[np.float64]
    """ascending, 10 ms apart; positive: the sound is late"""
    correlations: NDArray[np.float64]
    """Pearson, -1..1"""

    def best_within(self, earliest_sec: float, latest_sec: float) -> float:
        """The largest correlation at a delay between the two, ends included."""
        inside = (self.offsets_sec >= earliest_sec - 1e-9) & (self.offsets_sec <= latest_sec + 1e-9)
        return float(self.correlations[inside].max())


def lag_curve(
    curve: NDArray[np.float64], fps: float, envelope: OnsetEnvelope, max_offset_sec: float
) -> LagCurve | None:
    """How onset strength and the onset of motion correlate at each delay; None where either does not vary.

    `curve` is (T - 1,) of `motion_curve`. Its rises (falls cut to zero) are to motion what spectral flux is to sound:
    the start of a stroke, not its length, meets the start of its sound. Both are brought to 100 values a second and
    smoothed by 40 ms; every lag up to `max_offset_sec` gives one Pearson correlation over the time both cover.
    """
    times = np.arange(0.0, (len(curve) + 1) / fps, 1 / _RATE)
    if len(curve) < 2 or len(envelope.values) < 2 or len(times) / _RATE < _MIN_OVERLAP_SEC:
        return None
    rise = np.maximum(np.diff(curve, prepend=curve[0]), 0.0)
    motion = np.interp(times, (np.arange(len(curve)) + 0.5) / fps, rise)
    sound = np.interp(times, envelope.times_sec, envelope.values)
    motion, sound = (gaussian_filter1d(x, _SMOOTHING_SEC * _RATE) for x in (motion, sound))
    if motion.std() < _MIN_DEVIATION or sound.std() < _MIN_DEVIATION:
        return None
    reach = min(round(max_offset_sec * _RATE), len(times) - round(_MIN_OVERLAP_SEC * _RATE))
    return LagCurve(np.arange(-reach, reach + 1) / _RATE, _correlations(motion, sound, reach))


def best_offset(
    curve: NDArray[np.float64], fps: float, envelope: OnsetEnvelope, max_offset_sec: float
) -> Offset | None:
    """The delay at which onset strength and the onset of motion correlate best; None where either does not vary.

    Of the delays of `lag_curve`, among near-equal ones the smaller wins, at 0.1 of correlation a second; a parabola
    through the best three places the top between them. A real motion precedes the sound it makes (an arm swings before
    it hits): clips in sync show up to +230 ms. Periodic events fit at several lags, the confidence then nears 1. A
    thing that jumps there and back equally fast fits at both; a camera pan hides the motion of things.
    """
    lags = lag_curve(curve, fps, envelope, max_offset_sec)
    if lags is None:
        return None
    scores = lags.correlations
    best = int((scores - _NEARNESS_PER_SEC * np.abs(lags.offsets_sec)).argmax())
    offset_sec = float(lags.offsets_sec[best]) + _vertex(scores, best) / _RATE
    return Offset(offset_sec, float(scores[best]), _confidence(scores, best))


def _correlations(motion: NDArray[np.float64], sound: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Pearson correlation of sound against motion over their common time: (2 reach + 1,), entry i at lag i - reach.

    At a positive lag the sound is that many values late. Sums over a common time are differences of running sums.
    """
    length = len(motion)
    motion, sound = motion - motion.mean(), sound - sound.mean()
    lags = np.arange(-reach, reach + 1)
    products = np.correlate(np.pad(sound, reach), motion, mode="valid")
    counts = length - np.abs(lags)
    first_motion, first_sound = np.maximum(0, -lags), np.maximum(0, lags)
    a, a_squares = (_window_sums(x, first_motion, counts) for x in (motion, motion * motion))
    b, b_squares = (_window_sums(x, first_sound, counts) for x in (sound, sound * sound))
    norm = np.sqrt(np.maximum(a_squares - a * a / counts, 0.0) * np.maximum(b_squares - b * b / counts, 0.0))
    # A common time in which either hardly varies has no correlation, only rounding.
    is_varied = norm > _MIN_VARIATION * np.sqrt((motion @ motion) * (sound @ sound))
    return np.asarray(np.divide(products - a * b / counts, norm, out=np.zeros(len(lags)), where=is_varied))


def _window_sums(
    values: NDArray[np.float64], first: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[first + counts] - running[first])


def _vertex(scores: NDArray[np.float64], best: int) -> float:
    """Position of a parabola's top through three neighbours, in -1/2..1/2 of a lag; 0 at the border or off a top."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    left, middle, right = scores[best - 1 : best + 2]
    if middle < max(left, right) or left == right:
        return 0.0
    return float(0.5 * (left - right) / (left - 2 * middle + right))


def _confidence(scores: NDArray[np.float64], best: int) -> float:
    reach = round(_PEAK_REACH_SEC * _RATE)
    elsewhere = np.concatenate([scores[: max(0, best - reach)], scores[best + reach + 1 :]])
    rival = float(elsewhere.max(initial=0.0))
    return float(max(scores[best], 0.0) / max(rival, 0.05))

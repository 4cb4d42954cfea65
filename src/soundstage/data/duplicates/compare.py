"""Two fingerprints laid over each other: how much of them agrees, and what that makes of the clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config.tree import SplitConfig
from .fingerprint import Fingerprint
from .picture import MOTION_HZ, MOTION_STEPS, PICTURE_HZ
from .sound import SOUND_HZ, UNHEARD
from .words import smooth_motion

_MIN_OVERLAP_SEC = 1.0
_MIN_HILLS = 5  # movements that motion alone needs: at fewer, clips of a kind agree by chance
_HILL = 0.4  # of the highest
_MIN_HEARD_TICKS = SOUND_HZ  # 1 s: two bangs, since one fits any other of its kind
_MIN_SURE_BITS = 8  # a tick, on average; less is a flat picture
_MIN_MOTION_SPREAD = 0.25 * MOTION_STEPS
_CONTRADICTION = 0.5  # motion that correlates less belongs to other events
_TRIM_SLACK_SEC = 0.1  # clips end on frames, cuts on key frames
_SOUND_REACH, _PICTURE_REACH, _MOTION_REACH = 2, 1, 2  # ticks searched on both sides of the offset


class Relation(StrEnum):
    """What two clips are to each other."""

    SAME = "same"
    """near-duplicates: the same events, seen and heard"""
    RELATED = "related"
    """the same picture with other sound, without sound, or with its sound moved: one group, yet no duplicate"""
    OTHER = "other"


class Hearing(StrEnum):
    """What the sounds of two clips say."""

    AGREES = "agrees"
    DIFFERS = "differs"
    SILENT = "silent"
    """neither has enough of it"""


@dataclass(frozen=True)
class Comparison:
    """Agreement of two clips over their common span."""

    offset_sec: float
    """the second clip starts this much after the start of the first; may be negative"""
    overlap_sec: float
    hearing: Hearing
    audio_bit_error: float | None
    """share of sound bits that differ, 0..1; None: not a second of sound is common"""
    video_bit_error: float | None
    """share of sure picture bits that differ, 0..1; None: flat pictures"""
    motion_correlation: float | None
    """-1..1; None: one of them does not move"""
    movements: int
    """how often the first clip starts to move in the common span"""

    def reversed(self) -> Comparison:
        """The same seen from the second clip."""
        return replace(self, offset_sec=-self.offset_sec)


def compare(first: Fingerprint, second: Fingerprint, offset_sec: float, limits: SplitConfig) -> Comparison | None:
    """Lay `second` over `first` from `offset_sec` of the first on, a little to either side; None: too little is common.

    Sound, pictures and motion are each taken at their best place within 80, 125 and 83 ms.
    """
    lengths = len(first.motion) / MOTION_HZ, len(second.motion) / MOTION_HZ
    overlap = min(lengths[0], offset_sec + lengths[1]) - max(0.0, offset_sec)
    if overlap < max(_MIN_OVERLAP_SEC, limits.min_overlap * min(lengths) - _TRIM_SLACK_SEC):
        return None
    hearing, audio_error, heard_at = _sound(first.sound, second.sound, offset_sec, limits.max_audio_bit_error)
    motion, moved_at, movements = _motion(first.motion, second.motion, offset_sec)
    place = heard_at if hearing is Hearing.AGREES else moved_at if motion is not None else offset_sec
    video_error = _picture(first, second, offset_sec)
    return Comparison(round(place, 6), round(overlap, 6), hearing, audio_error, video_error, motion, movements)


def relation(found: Comparison, limits: SplitConfig) -> Relation:
    """What the agreement means.

    The picture must agree in any case: one tune under many films is no link. Sound that agrees makes duplicates unless
    motion that is there on both sides happens at other times (the sound was moved). Without sound on either side the
    picture must agree twice as well, and so must the timing of at least five movements, which chance does not give.
    A silent or dubbed copy is related by the same rule; one that moves less is not found.
    """
    video_error, motion = found.video_bit_error, found.motion_correlation
    if video_error is None or video_error > limits.max_video_bit_error:
        return Relation.OTHER
    if found.hearing is Hearing.AGREES:
        return Relation.RELATED if motion is not None and motion < _CONTRADICTION else Relation.SAME
    timed = motion is not None and motion >= limits.min_motion_correlation and found.movements >= _MIN_HILLS
    if not timed or video_error > limits.max_video_bit_error / 2:
        return Relation.OTHER
    return Relation.SAME if found.hearing is Hearing.SILENT else Relation.RELATED


def _common(first: NDArray[Any], second: NDArray[Any], offset: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The parts of both that lie over each other when tick t of `second` is tick t + offset of `first`."""
    begin, end = max(0, -offset), min(len(second), len(first) - offset)
    if end <= begin:
        return first[:0], second[:0]
    return first[begin + offset : end + offset], second[begin:end]


def _around(offset_sec: float, rate: int, reach: int) -> range:
    nearest = round(offset_sec * rate)
    return range(nearest - reach, nearest + reach + 1)


def _sound(
    first: NDArray[np.uint32], second: NDArray[np.uint32], offset_sec: float, limit: float
) -> tuple[Hearing, float | None, float]:
    best: tuple[float, float] | None = None
    loudest = 0
    for offset in _around(offset_sec, SOUND_HZ, _SOUND_REACH):
        a, b = _common(first, second, offset)
        heard_a, heard_b = a != UNHEARD, b != UNHEARD
        loudest = max(loudest, int(heard_a.sum()), int(heard_b.sum()))
        both = heard_a & heard_b
        if (count := int(both.sum())) >= _MIN_HEARD_TICKS:
            error = float(np.bitwise_count(a[both] ^ b[both]).sum()) / (32 * count)
            if best is None or error < best[0]:
                best = error, offset / SOUND_HZ
    if best is None:
        return (Hearing.DIFFERS if loudest >= _MIN_HEARD_TICKS else Hearing.SILENT), None, offset_sec
    return (Hearing.AGREES if best[0] <= limit else Hearing.DIFFERS), best[0], best[1]


def _picture(first: Fingerprint, second: Fingerprint, offset_sec: float) -> float | None:
    errors = []
    for offset in _around(offset_sec, PICTURE_HZ, _PICTURE_REACH):
        a, b = _common(first.picture, second.picture, offset)
        sure_a, sure_b = _common(first.picture_sure, second.picture_sure, offset)
        sure = sure_a & sure_b
        bits = int(np.bitwise_count(sure).sum())
        if bits >= _MIN_SURE_BITS * max(1, len(sure)):
            errors.append(float(np.bitwise_count((a ^ b) & sure).sum()) / bits)
    return min(errors, default=None)


def _motion(first: NDArray[np.uint8], second: NDArray[np.uint8], offset_sec: float) -> tuple[float | None, float, int]:
    a, b = smooth_motion(first), smooth_motion(second)
    best: float | None = None
    place, movements = offset_sec, 0
    for offset in _around(offset_sec, MOTION_HZ, _MOTION_REACH):
        x, y = _common(a, b, offset)
        if len(x) < MOTION_HZ:
            continue
        from_mean_x, from_mean_y = x - x.sum() / len(x), y - y.sum() / len(y)
        energy_x, energy_y = from_mean_x @ from_mean_x, from_mean_y @ from_mean_y
        if min(energy_x, energy_y) < len(x) * _MIN_MOTION_SPREAD**2:
            continue
        correlation = float(from_mean_x @ from_mean_y / np.sqrt(energy_x * energy_y))
        if best is None or correlation > best:
            best, place, movements = correlation, offset / MOTION_HZ, _hills(x)
    return best, place, movements


def _hills(motion: NDArray[np.float64]) -> int:
    moving = motion > _HILL * motion.max()
    return int(moving[0]) + int((moving[1:] & ~moving[:-1]).sum())

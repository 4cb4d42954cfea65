"""What the index is asked for: 32-bit words that a copy shares at many ticks and a stranger at hardly any.

Sound words are used nearly as they are. For copies whose sound is missing or another one, timing words say when the
picture moves and roughly how it looks. Both belong to a place in the clip, so equal words vote for an offset.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .fingerprint import Fingerprints, Ragged
from .picture import MOTION_HZ, MOTION_STEPS, PICTURE_HZ

NO_WORD = 0
_KERNEL = np.array([1, 2, 3, 4, 3, 2, 1]) / 16
_BITS = 24
_STRIDE = 2
_SPAN = (_BITS - 1) * _STRIDE + 1
_MOVING = 0.5  # share of the largest motion of a word's 2 s
_WEAKEST = 0.7 * MOTION_STEPS
_FEWEST = 3  # bits set, and bits not set: fewer say nothing of timing
_LOOK_BITS = 7
_LOOKS = 2


def smooth_motion(motion: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Motion (ticks,) over a triangle of 0.29 s: another frame rate moves and halves its peaks, hardly its hills."""
    if not len(motion):
        return np.zeros(0)
    return np.convolve(motion, _KERNEL)[3:-3]


def timing_words(
    motion: NDArray[np.uint8], picture: NDArray[np.uint64], sure: NDArray[np.uint64]
) -> list[NDArray[np.uint32]]:
    """Words (ticks at MOTION_HZ,) for each of two looks; NO_WORD where nothing moves, or all the time.

    Bit i says whether the picture moves 2 i ticks later, measured by the strongest motion of those 2 s, so that
    neither contrast nor size matters. The eight bits above hold signs of the picture word shown at the tick.
    """
    hills = smooth_motion(motion)
    count = len(hills) - _SPAN + 1
    if count < 1:
        return [np.zeros(0, np.uint32)] * _LOOKS
    spans = np.lib.stride_tricks.sliding_window_view(hills, _SPAN)
    peaks = spans.max(axis=1)
    moving = spans[:, ::_STRIDE] > _MOVING * peaks[:, None]
    number = moving.sum(axis=1)
    usable = (peaks > _WEAKEST) & (number >= _FEWEST) & (number <= _BITS - _FEWEST)
    timing = (moving * (1 << np.arange(_BITS, dtype=np.uint32))).sum(axis=1, dtype=np.uint32)
    shown = (picture & sure)[np.minimum(np.arange(count) * PICTURE_HZ // MOTION_HZ, len(picture) - 1)]
    return [np.where(usable, timing | _look(shown, index), NO_WORD).astype(np.uint32) for index in range(_LOOKS)]


def _look(shown: NDArray[np.uint64], index: int) -> NDArray[np.uint32]:
    """Seven signs of a picture word and which seven, above the timing bits."""
    bits = (shown >> np.uint64(index * _LOOK_BITS)) & np.uint64((1 << _LOOK_BITS) - 1)
    return ((bits.astype(np.uint32) << np.uint32(1)) | np.uint32(index)) << np.uint32(_BITS)


def all_timing_words(prints: Fingerprints) -> list[Ragged]:
    """Timing words of a corpus, one Ragged a look."""
    lengths = np.maximum(np.diff(prints.motion.starts) - _SPAN + 1, 0)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # Filled in place: arrays of each clip, later joined, would take as much again and an object each.
    looks = [Ragged(np.zeros(starts[-1], np.uint32), starts) for _ in range(_LOOKS)]
    for clip in range(len(prints)):
        made = timing_words(prints.motion[clip], prints.picture[clip], prints.picture_sure[clip])
        for look, words in zip(looks, made, strict=True):
            look[clip][:] = words
    return looks


def partial_sound_words(sound: Ragged) -> Iterator[Ragged]:
    """Sound words without their six highest and without their six lowest bands.

    Coding takes the highest bands first and a cut between two ticks turns bits anywhere, so whole words of short,
    strongly coded copies agree nowhere; 26 bits do at several ticks.
    """
    for mask in (0x03FF_FFFF, 0xFFFF_FFC0):
        yield Ragged(sound.values & np.uint32(mask), sound.starts)

"""From a clip to the windows that training sees: where they start, whether they are mirrored, what they hear."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.tree import EncodeConfig, WindowConfig
from ..media.decode import DecodedClip
from ..media.frames import fitted_frames
from ..media.sound import cut_sound, resample

_GRID_TOLERANCE = 1e-6  # frames: a start on the grid stays on it in floating point


@dataclass(frozen=True)
class PlannedWindow:
    """One window of a clip, before anything is decoded."""

    start_us: int
    flip: bool
    key: str


def bucket_name(window: WindowConfig) -> str:
    """The bucket of windows like this one: frames, height and width, as in `12x32x32`."""
    height, width = window.frame_size
    return f"{window.num_frames}x{height}x{width}"


def plan_windows(
    clip: Mapping[str, Any], audio_shift_sec: float, config: EncodeConfig, window: WindowConfig
) -> Iterator[PlannedWindow]:
    """Seeded windows of a clip, starts on its frame grid, wholly inside both picture and (shifted) sound.

    The key hashes all that decides the sample: clip, media bytes, audio shift, start, flip.
    """
    fps = clip["fps_num"] / clip["fps_den"]
    first, last = start_range(clip, audio_shift_sec, window)
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}:{clip['clip_id']}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    # Rounding to the grid must not step outside; a span narrower than the grid keeps its first frame.
    lowest = math.ceil(first * fps - _GRID_TOLERANCE)
    highest = max(lowest, math.floor(last * fps + _GRID_TOLERANCE))
    for index in range(config.windows_per_clip):
        start_frame = min(max(round(rng.uniform(first, last) * fps), lowest), highest)
        start_us = round(start_frame / fps * 1e6)
        flip = config.flip and index % 2 == 1
        yield PlannedWindow(start_us, flip, sample_key(clip, audio_shift_sec, start_us, flip))


def start_range(clip: Mapping[str, Any], audio_shift_sec: float, window: WindowConfig) -> tuple[float, float]:
    """Earliest and latest start of a window, in seconds, so that picture and shifted sound both cover it."""
    duration = clip["num_frames"] * clip["fps_den"] / clip["fps_num"]
    length = float(window.duration_sec)
    first = max(0.0, audio_shift_sec)
    last = min(duration, duration + audio_shift_sec) - length
    return first, max(first, last)


def holds(clip: Mapping[str, Any], audio_shift_sec: float, window: WindowConfig) -> bool:
    """Whether picture and shifted sound of a clip last for a window."""
    duration = Fraction(clip["num_frames"] * clip["fps_den"], clip["fps_num"])
    # The shift is a float: to the microsecond, as in records.
    return duration - abs(Fraction(round(audio_shift_sec * 1e6), 1_000_000)) >= window.duration_sec


def picture_scale(clip: Mapping[str, Any], window: WindowConfig) -> float:
    """Pixels of the clip's frame for one of the window's, along a side; below 1 the clip is enlarged."""
    height, width = window.frame_size
    return float(min(clip["height"] / height, clip["width"] / width))


def sample_key(clip: Mapping[str, Any], audio_shift_sec: float, start_us: int, flip: bool) -> str:
    """Identity of a sample, 32 hex digits."""
    text = f"{clip['clip_id']}:{clip['media_sha256']}:{audio_shift_sec:.6f}:{start_us}:{int(flip)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def window_frames(clip: DecodedClip, start_sec: float, window: WindowConfig) -> NDArray[np.uint8]:
    """The window's pictures (num_frames, height, width, 3): the clip's frames nearest to the window's instants."""
    times = start_sec + np.arange(window.num_frames) / window.fps
    indices = np.clip(np.round(times * float(clip.fps)).astype(int), 0, len(clip.frames) - 1)
    return fitted_frames(clip.frames[indices], *window.frame_size)


def window_sound(
    clip: DecodedClip, start_sec: float, audio_shift_sec: float, window: WindowConfig, sample_rate: int
) -> NDArray[np.float32]:
    """The window's sound with margins at `sample_rate`; a positive shift moves the clip's sound later."""
    margin = window.audio_margin_sec
    waveform = resample(clip.waveform, clip.sample_rate, sample_rate)
    length = float(window.duration_sec) + 2 * margin
    return cut_sound(waveform, sample_rate, start_sec - audio_shift_sec - margin, length)

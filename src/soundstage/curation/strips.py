"""A clip at a glance: frames over time and, below, its sound and motion on the same time axis, as one PNG."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import DataError
from ..media.decode import DecodedClip, decode_clip
from . import signals

FRAMES = 8
_FRAME_PX = 80
_CURVES_PX = 64
_WAVE, _ONSET, _MOTION = (196, 202, 210), (31, 111, 208), (216, 110, 0)
# Less is noise of the encoder, which a still picture would else show as lively motion.
_LEAST_MOTION = 0.3 / 255

Curve = NDArray[np.float64]


def clip_strip(path: Path, audio_shift_sec: float = 0.0) -> bytes | None:
    """PNG of the normalised clip at `path`; None when it cannot be decoded."""
    try:
        clip = decode_clip(path, _FRAME_PX)
    except DataError:
        return None
    return draw_strip(clip, audio_shift_sec)


def draw_strip(clip: DecodedClip, audio_shift_sec: float = 0.0) -> bytes:
    """PNG of 8 frames, each above the eighth of the clip whose middle it shows, over waveform, onsets and motion.

    `clip` holds RGB frames (T, H, W, 3). The sound is drawn `audio_shift_sec` later than it stands in the file. The
    waveform is grey at its own scale, onset strength blue and rising motion orange, each relative to its largest value.
    """
    tiles = [clip.frames[int((i + 0.5) * len(clip.frames) / FRAMES)] for i in range(FRAMES)]
    picture = np.concatenate(tiles, axis=1)
    height, width = picture.shape[:2]
    image = Image.new("RGB", (width, height + _CURVES_PX), "white")
    image.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(image)
    for left in range(width // FRAMES, width, width // FRAMES):
        draw.line([(left, 0), (left, height - 1)], fill="white")
    fps = float(clip.fps)
    column_sec = (np.arange(width) + 0.5) * len(clip.frames) / fps / width
    _draw_wave(draw, clip, column_sec - audio_shift_sec, height)
    envelope = signals.onset_envelope(clip.waveform, clip.sample_rate)
    rise = np.maximum(np.diff(signals.motion_curve(_grey(clip.frames)), prepend=0.0), 0.0)
    times = np.asarray((np.arange(len(rise)) + 0.5) / fps, dtype=np.float64)
    moving = _relative(rise, times, column_sec, _LEAST_MOTION)
    sounding = _relative(envelope.values, envelope.times_sec, column_sec - audio_shift_sec, 0.0)
    _draw_curve(draw, moving, height, _MOTION)
    _draw_curve(draw, sounding, height, _ONSET)
    stream = io.BytesIO()
    image.quantize(256).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(frames.mean(axis=3), dtype=np.uint8)


def _draw_wave(draw: ImageDraw.ImageDraw, clip: DecodedClip, column_sec: Curve, top: int) -> None:
    """Lowest and highest audio sample of each column of pixels."""
    step = column_sec[1] - column_sec[0]
    edges = np.append(column_sec - step / 2, column_sec[-1] + step / 2) * clip.sample_rate
    bounds = np.clip(np.round(edges), 0, len(clip.waveform)).astype(int)
    middle, half = top + _CURVES_PX / 2, _CURVES_PX / 2 - 2
    for column, (start, end) in enumerate(pairwise(bounds)):
        heard = clip.waveform[start:end]
        low, high = (float(heard.min()), float(heard.max())) if len(heard) else (0.0, 0.0)
        draw.line([(column, middle - high * half), (column, middle - low * half)], fill=_WAVE)


def _relative(values: Curve, moments: Curve, at: Curve, least: float) -> Curve:
    """The curve at each moment, relative to its largest value but never to one under `least`; zero beyond its ends."""
    largest = max(float(values.max(initial=0.0)), least)
    if len(values) == 0 or largest <= 0:
        return np.zeros(len(at))
    return np.asarray(np.interp(at, moments, values / largest, left=0.0, right=0.0))


def _draw_curve(draw: ImageDraw.ImageDraw, curve: Curve, top: int, colour: tuple[int, int, int]) -> None:
    base, reach = top + _CURVES_PX - 2, _CURVES_PX - 6
    draw.line([(column, base - float(value) * reach) for column, value in enumerate(curve)], fill=colour, width=2)

"""Small media files with known times, written packet by packet: the trials that ingestion has to survive."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 44100
_CLOCK = Fraction(1, 1000)


def solid(level: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A grey picture (height, width, 3)."""
    return np.full((height, width, 3), level, np.uint8)


def pulses(duration_sec: float, *times: float) -> NDArray[np.float32]:
    """Silence with a short loud pulse centred on each of `times`; (samples,) at RATE."""
    wave = np.zeros(round(duration_sec * RATE), np.float32)
    for time in times:
        centre = round(time * RATE)
        wave[centre - 20 : centre + 21] = 0.9 * np.hanning(41)
    return wave


def pulse_times(waveform: NDArray[np.float32], sample_rate: int) -> list[float]:
    """Centres of the pulses heard in `waveform`, seconds."""
    loud = np.flatnonzero(np.abs(waveform) > 0.3)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > 0.1 * sample_rate) + 1)
    return [float(np.mean(group)) / sample_rate for group in groups if len(group)]


def write_source(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    times: Sequence[float],
    sounds: Sequence[tuple[float, NDArray[np.float32]]] = (),
    *,
    aspect: Fraction | None = None,
    codec: str = "libx264",
) -> Path:
    """Write RGB pictures at `times` and pieces of sound, each at its start; the container follows from the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        # The rate only tells how long the last picture lasts.
        video = container.add_stream(codec, rate=12, options={"crf": "8", "bf": "2"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = width, height, "yuv444p" if width % 2 or height % 2 else "yuv420p"
        video.time_base = video.codec_context.time_base = _CLOCK
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sounds else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time / _CLOCK), _CLOCK
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            _write_sounds(container, audio, sounds)
    return path


def _write_sounds(
    container: av.container.OutputContainer, stream: av.AudioStream, sounds: Sequence[tuple[float, NDArray[np.float32]]]
) -> None:
    for start, wave in sounds:
        # Whole encoder blocks, so that none is carried over a gap.
        padded = np.pad(wave, (0, -len(wave) % 1024))
        for offset in range(0, len(padded), 1024):
            frame = av.AudioFrame.from_ndarray(padded[None, offset : offset + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = round(start * RATE) + offset
            container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_plain(path: Path, duration_sec: float = 3.0, *pulse_at: float, seed: int = 0, size: int = 48) -> Path:
    """A sound clip of moving noise at 12 frames a second, with pulses."""
    count = round(duration_sec * 12)
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (count, 1, 1, 3), dtype=np.uint8) + np.zeros((1, size, size, 3), np.uint8)
    return write_source(path, list(pictures), [i / 12 for i in range(count)], [(0.0, pulses(duration_sec, *pulse_at))])


def turn_like_a_phone(path: Path) -> None:
    """Patch the first track's matrix of an MP4 to that of a phone held upright: shown a quarter clockwise.

    The matrix (a b u / c d v / x y w) of the track header maps (x, y) to (ax + cy, bx + dy) with y downwards, so that
    (0 1 / -1 0) takes the left edge to the top (QuickTime File Format, "Track header atoms").
    """
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    path.write_bytes(bytes(data))

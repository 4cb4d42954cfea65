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


def pulses(duration_sec: float, *times: float, rate: int = RATE) -> NDArray[np.float32]:
    """Silence with a loud pulse of about a millisecond centred on each of `times`; (samples,) at `rate` Hz."""
    wave = np.zeros(round(duration_sec * rate), np.float32)
    half = max(2, round(20 * rate / RATE))
    for time in times:
        centre = round(time * rate)
        wave[centre - half : centre + half + 1] = 0.9 * np.hanning(2 * half + 1)
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
    options: dict[str, str] | None = None,
    pix_fmt: str = "",
    audio_codec: str = "aac",
    rate: int = RATE,
    layout: str = "mono",
    mux_options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures at `times` and pieces of sound, each at its start; the container follows from the suffix.

    A sound is (samples,) for all channels of `layout`, or (channels, samples), at `rate` Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=mux_options or {}) as container:
        # The rate only tells how long the last picture lasts.
        defaults = {"crf": "8", "bf": "2"} if codec == "libx264" else {}
        video = container.add_stream(codec, rate=12, options=defaults if options is None else options)
        video.width, video.height = width, height
        video.pix_fmt = pix_fmt or ("yuv444p" if width % 2 or height % 2 else "yuv420p")
        video.time_base = video.codec_context.time_base = _CLOCK
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream(audio_codec, rate=rate, layout=layout) if sounds else None
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
    rate, layout = stream.rate, stream.layout
    for start, wave in sounds:
        wave = np.broadcast_to(wave, (layout.nb_channels, wave.shape[-1]))
        # Whole encoder blocks, so that none is carried over a gap.
        padded = np.pad(wave, ((0, 0), (0, -wave.shape[1] % 1024))).astype(np.float32)
        for offset in range(0, padded.shape[1], 1024):
            # Channels side by side: frames of PyAV take no more than seven planes.
            block = np.ascontiguousarray(padded[:, offset : offset + 1024].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout.name)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(start * rate) + offset
            container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_plain(path: Path, duration_sec: float = 3.0, *pulse_at: float, seed: int = 0, size: int = 48) -> Path:
    """A sound clip of moving noise at 12 frames a second, with pulses."""
    count = round(duration_sec * 12)
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 255, (count, 1, 1, 3), dtype=np.uint8) + np.zeros((1, size, size, 3), np.uint8)
    return write_source(path, list(pictures), [i / 12 for i in range(count)], [(0.0, pulses(duration_sec, *pulse_at))])


def turn_like_a_phone(path: Path) -> None:
    """Patch an MP4 to be shown as by a phone held upright: a quarter clockwise."""
    turn(path, 90)


def turn(path: Path, clockwise: int) -> None:
    """Patch the first track's matrix of an MP4 so that the picture is shown turned by `clockwise` degrees.

    The matrix (a b u / c d v / x y w) of the track header maps (x, y) to (ax + cy, bx + dy) with y downwards, so that
    (0 1 / -1 0) takes the left edge to the top (QuickTime File Format, "Track header atoms").
    """
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    a, b = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[clockwise]
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, -b, a, 0, 48 * one, 0, 1 << 30)
    path.write_bytes(bytes(data))

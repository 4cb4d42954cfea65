"""Write H.264 + AAC files whose bytes depend on their input alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ..stages.files import atomic_path

# One thread and no version stamp: x264's output depends on its thread count, the muxer's on its build.
_BITEXACT = {"fflags": "+bitexact"}
# Without mbtree: with it, the same frames gave two or three different streams in 8 of 10 clips of 96x96 pixels, in one
# process and on one thread (libx264 of PyAV 18.1); without it none did, at five sizes.
_X264 = {"preset": "veryfast", "threads": "1", "flags": "+bitexact", "x264-params": "mbtree=0"}
_AUDIO_BLOCK = 1024
# ISO/IEC 14496-3, table of sampling frequencies: AAC knows these alone.
_AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    fps: Fraction | int,
    waveform: NDArray[np.float32] | None = None,
    sample_rate: int = 44100,
    crf: int = 18,
) -> None:
    """Write `frames` (T, H, W, 3; RGB; H and W even) and `waveform` (samples,) in -1..1 as an MP4 file.

    Raises:
        ValueError: odd sizes, no frames, or shapes other than stated.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[0] == 0 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"frames must be (T>0, even H, even W, 3), found {frames.shape}")
    if waveform is not None and waveform.ndim != 1:
        raise ValueError(f"waveform must be (samples,), found {waveform.shape}")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4", options=_BITEXACT) as container:
        video = container.add_stream("libx264", rate=Fraction(fps), options=_X264 | {"crf": str(crf)})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = None
        if waveform is not None:
            audio = container.add_stream("aac", rate=sample_rate, options={"flags": "+bitexact"})
            audio.layout = "mono"
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        if audio is not None and waveform is not None:
            _encode_audio(container, audio, waveform, sample_rate)


def write_animation(
    path: Path, frames: NDArray[np.uint8], fps: Fraction | int, waveform: NDArray[np.float32], sample_rate: int
) -> None:
    """As `write_video`, with the sound cut, or continued with silence, to the length of the picture.

    A sample rate that AAC does not know becomes 48 kHz.
    """
    if sample_rate not in _AAC_RATES:
        from .sound import resample  # imports torch, which whoever only writes videos need not wait for

        waveform, sample_rate = resample(waveform, sample_rate, 48000), 48000
    length = round(Fraction(len(frames)) / Fraction(fps) * sample_rate)
    sound = np.zeros(length, np.float32)
    sound[: min(length, len(waveform))] = waveform[:length]
    write_video(path, frames, fps, sound, sample_rate)


def _encode_audio(
    container: av.container.OutputContainer, stream: av.AudioStream, waveform: NDArray[np.float32], sample_rate: int
) -> None:
    samples = np.ascontiguousarray(waveform, dtype=np.float32)
    for start in range(0, len(samples), _AUDIO_BLOCK):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + _AUDIO_BLOCK], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        frame.pts = start
        frame.time_base = Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())

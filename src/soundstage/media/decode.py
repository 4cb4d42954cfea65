"""Read normalised clips: constant frame rate, mono sound, both starting at zero."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..errors import DataError


@dataclass(frozen=True)
class DecodedClip:
    """A clip in memory."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB, or (T, H, W) grey"""
    fps: Fraction
    waveform: NDArray[np.float32]
    """(samples,) mono, -1..1, starting with the first frame"""
    sample_rate: int


def decode_clip(path: Path, short_side: int | None = None, pixels: Literal["rgb24", "gray"] = "rgb24") -> DecodedClip:
    """Decode a normalised clip, scaled so that its short side is `short_side` (None keeps its size).

    Raises:
        DataError: the file cannot be decoded or lacks a stream.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or not container.streams.audio:
                raise DataError(
                    f"{path}: a normalised clip has one video and one audio stream; rerun `soundstage ingest`"
                )
            return _decode(container, short_side, pixels)
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}; rerun `soundstage ingest`") from error


def _decode(container: av.container.InputContainer, short_side: int | None, pixels: str) -> DecodedClip:
    video, audio = container.streams.video[0], container.streams.audio[0]
    # Frame threads would make decode order, and so memory, depend on the machine.
    video.thread_type = "NONE"
    # One persistent converter: a frame's own reformat() builds a new one each call, ten times slower.
    reformatter = VideoReformatter()
    width, height = _scaled(video.width, video.height, short_side)
    images: list[NDArray[np.uint8]] = []
    sound: list[NDArray[np.float32]] = []
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=audio.rate)
    for packet in container.demux(video, audio):
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                small = reformatter.reformat(frame, width, height, pixels, interpolation="AREA", threads=1)
                images.append(np.asarray(small.to_ndarray(), dtype=np.uint8))
            elif isinstance(frame, av.AudioFrame):
                sound.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    if not images:
        raise av.error.InvalidDataError(0, "no video frame decoded")
    rate = Fraction(video.average_rate or video.guessed_rate or 0)
    waveform = np.concatenate(sound) if sound else np.zeros(0, np.float32)
    return DecodedClip(np.stack(images), rate, waveform.astype(np.float32), int(audio.rate))


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))

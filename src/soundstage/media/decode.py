"""Read normalised clips: constant frame rate, mono sound, both starting at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
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
    views: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """what was asked for besides: (frames, height, width, 3) RGB each"""
    chroma: NDArray[np.uint8] | None = None
    """(T, 2, n, n) blue and red difference (Cb, Cr) at the cells of an n x n grid, 0..255; None: not asked for"""


@dataclass(frozen=True)
class View:
    """RGB pictures in another size, taken from the same decode pass."""

    size: tuple[int, int] | None = None
    """width and height in pixels, whatever the shape of the video; None keeps its size"""
    frames: frozenset[int] | None = None
    """indices of the frames wanted; None takes all"""


def decode_clip(
    path: Path,
    short_side: int | None = None,
    pixels: Literal["rgb24", "gray"] = "rgb24",
    views: Mapping[str, View] | None = None,
    chroma_grid: int = 0,
) -> DecodedClip:
    """Decode a normalised clip, scaled so that its short side is `short_side` (None keeps its size).

    `views` adds RGB pictures in other sizes under their names, `chroma_grid` the colour of a grid of so many cells a
    side: what a grey picture does not show.

    Raises:
        DataError: the file cannot be decoded or lacks a stream.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or not container.streams.audio:
                raise DataError(
                    f"{path}: a normalised clip has one video and one audio stream; rerun `soundstage ingest`"
                )
            return _decode(container, short_side, pixels, views or {}, chroma_grid)
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}; rerun `soundstage ingest`") from error


def _decode(
    container: av.container.InputContainer,
    short_side: int | None,
    pixels: str,
    views: Mapping[str, View],
    chroma_grid: int,
) -> DecodedClip:
    video, audio = container.streams.video[0], container.streams.audio[0]
    # Frame threads would make decode order, and so memory, depend on the machine.
    video.thread_type = "NONE"
    pictures = _Pictures(*_scaled(video.width, video.height, short_side), pixels)
    others = {name: _Pictures(*(v.size or (video.width, video.height)), "rgb24", v.frames) for name, v in views.items()}
    colour = _Chroma(chroma_grid) if chroma_grid else None
    takers: list[_Pictures | _Chroma] = [pictures, *others.values(), *([colour] if colour else [])]
    sound: list[NDArray[np.float32]] = []
    # What ingestion wrote is mono already: the resampler would take a third of the time of decoding it.
    is_mono: bool | None = None
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=audio.rate)
    for packet in container.demux(video, audio):
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                for taken in takers:
                    taken.take(frame)
            elif isinstance(frame, av.AudioFrame):
                if is_mono is None:
                    is_mono = frame.format.name == "fltp" and frame.layout.nb_channels == 1
                parts = [frame] if is_mono else resampler.resample(frame)
                sound.extend(part.to_ndarray()[0] for part in parts)
    if not pictures.images:
        raise av.error.InvalidDataError(0, "no video frame decoded")
    # A guess would be one over the container's clock: a thousand frames a second in Matroska.
    if not video.average_rate:
        raise av.error.InvalidDataError(0, "its video stream states no frame rate")
    waveform = np.concatenate(sound) if sound else np.zeros(0, np.float32)
    rate = Fraction(video.average_rate)
    stacked = {name: taken.stack() for name, taken in others.items()}
    return DecodedClip(
        frames=pictures.stack(),
        fps=rate,
        waveform=waveform.astype(np.float32, copy=False),
        sample_rate=int(audio.rate),
        views=stacked,
        chroma=colour.stack() if colour else None,
    )


class _Pictures:
    """Frames of one size and pixel format, collected as they are decoded."""

    def __init__(self, width: int, height: int, pixels: str, wanted: frozenset[int] | None = None) -> None:
        # One persistent converter: a frame's own reformat() builds a new one each call, ten times slower.
        self._reformatter = VideoReformatter()
        self._width, self._height, self._pixels, self._wanted = width, height, pixels, wanted
        self._colours = 1 if pixels == "gray" else 3
        self._seen = 0
        self.images: list[tuple[bytes, int]] = []
        """bytes of each picture, and of each of its rows with what fills it up"""

    def take(self, frame: av.VideoFrame) -> None:
        """Convert the next frame of the video, if it is wanted."""
        index, self._seen = self._seen, self._seen + 1
        if self._wanted is not None and index not in self._wanted:
            return
        small = self._reformatter.reformat(
            frame, self._width, self._height, self._pixels, interpolation="AREA", threads=1
        )
        # Not to_ndarray(): for small pictures it takes as long as the conversion.
        plane = small.planes[0]
        self.images.append((bytes(plane), plane.line_size))

    def stack(self) -> NDArray[np.uint8]:
        """All that was taken: (frames, height, width[, 3])."""
        rows = np.empty((len(self.images), self._height, self._width * self._colours), np.uint8)
        for picture, (data, line) in zip(rows, self.images, strict=True):
            picture[:] = np.frombuffer(data, np.uint8).reshape(-1, line)[: self._height, : rows.shape[2]]
        return rows if self._colours == 1 else rows.reshape(*rows.shape[:2], self._width, self._colours)


class _Chroma:
    """Colour at the points of a grid, taken from the decoder's own planes without a conversion."""

    def __init__(self, grid: int) -> None:
        self._grid = grid
        self._points: list[NDArray[np.uint8]] = []

    def take(self, frame: av.VideoFrame) -> None:
        """Look up the two colour planes of the next frame."""
        # Normalised clips are stored like this; anything else is brought to it.
        planar = frame if frame.format.name in ("yuv420p", "yuvj420p") else frame.reformat(format="yuv420p")
        for plane in planar.planes[1:3]:
            points = _points(plane.height, plane.width, plane.line_size, self._grid)
            self._points.append(np.frombuffer(memoryview(plane), np.uint8)[points])

    def stack(self) -> NDArray[np.uint8]:
        """All that was taken: (frames, 2, grid, grid)."""
        return np.concatenate(self._points).reshape(-1, 2, self._grid, self._grid)


@cache
def _points(height: int, width: int, line_size: int, grid: int) -> NDArray[np.int64]:
    """Where in a plane's bytes the pixels at the centres of the cells of a `grid` x `grid` grid lie: (grid^2,)."""
    rows, columns = (((np.arange(grid) + 0.5) * size / grid).astype(np.int64) for size in (height, width))
    return np.asarray((rows[:, None] * line_size + columns).ravel())


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))

"""From a source as it comes to clips as training wants them: constant frame rate, one size rule, mono sound in time.

Pictures and sound are placed by their time stamps alone, never by counting: variable frame rates, late or broken
sound and clocks that start anywhere come out right. Pictures of high dynamic range (PQ, HLG) are converted to BT.709
with reference white (203 cd/m2, Report ITU-R BT.2408) at full scale; what is brighter is clipped. The picture is not
deinterlaced and mirroring is not undone. A source that cannot be decoded to its end is refused whole: where its sound
and picture part is not known.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from .encode import write_video
from .opening import SourceError, check_pixels, decode_packet, frame_time, open_media, reading
from .place_audio import decode_audio
from .probe import SourceProbe

FrameT = TypeVar("FrameT")

# Pictures over which time stamps may be out of order: each is held in memory.
_REORDERED = 4
_HIGH_DYNAMIC_RANGE = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})


@dataclass(frozen=True)
class NormaliseSettings:
    """The form of every normalised clip."""

    short_side: int
    """pixels; a larger picture is scaled down to it, a smaller one keeps its size"""
    fps: int
    sample_rate: int


@dataclass(frozen=True)
class Span:
    """A part of a source in microseconds after its first video frame."""

    start_us: int
    duration_us: int

    @property
    def start(self) -> Fraction:
        """Start in seconds."""
        return Fraction(self.start_us, 1_000_000)

    def num_frames(self, fps: int) -> int:
        """Pictures of the normalised clip: the whole number nearest to the span's length."""
        return max(1, math.floor(Fraction(self.duration_us, 1_000_000) * fps + Fraction(1, 2)))


@dataclass(frozen=True)
class NormalisedClip:
    """What was written."""

    num_frames: int
    width: int
    height: int


Observer = Callable[[Path, NDArray[np.uint8], NDArray[np.float32]], None]
"""Sees a written clip: its path, pictures (T, H, W, 3) RGB at the normal rate, and sound (samples,)"""


def plan_spans(duration: Fraction, span_sec: float) -> list[Span]:
    """Equal consecutive spans, each no longer than `span_sec`, that together cover `duration` seconds."""
    total_us = math.floor(duration * 1_000_000)
    count = max(1, math.ceil(duration / Fraction(span_sec)))
    bounds = [total_us * index // count for index in range(count + 1)]
    return [Span(start, end - start) for start, end in pairwise(bounds)]


def normalise(
    path: Path,
    source: SourceProbe,
    targets: Sequence[tuple[Span, Path]],
    settings: NormaliseSettings,
    observe: Observer | None = None,
) -> list[NormalisedClip]:
    """Write each span of `path` to its target as H.264 + mono AAC, picture and sound equally long.

    The source is decoded once for all spans, which come in order of time. Equal input gives equal bytes. `observe` is
    given each target once it is written, with what went into it.

    Raises:
        SourceError: the source cannot be decoded to its end.
    """
    with reading():
        waveform = decode_audio(path, source, settings.sample_rate)
    spans = [span for span, _ in targets]
    clips = []
    pictures = decode_spans(path, source, spans, settings)
    for span, target in targets:
        with reading():
            frames = next(pictures)
        sound = _cut(waveform, span, len(frames), settings)
        # Outside `reading`: a full disk is our trouble, not the source's.
        write_video(target, frames, settings.fps, sound, settings.sample_rate)
        if observe is not None:
            observe(target, frames, sound)
        clips.append(NormalisedClip(len(frames), frames.shape[2], frames.shape[1]))
    return clips


def _cut(
    waveform: NDArray[np.float32], span: Span, num_frames: int, settings: NormaliseSettings
) -> NDArray[np.float32]:
    """The span's sound, silence where the source has none; (samples,) as long as `num_frames` pictures."""
    start = round(span.start * settings.sample_rate)
    length = round(Fraction(num_frames * settings.sample_rate, settings.fps))
    sound = np.zeros(length, np.float32)
    part = waveform[start : start + length]
    sound[: len(part)] = part
    return sound


def output_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Even width and height of a `width` x `height` picture scaled down so that its short side is `short_side`."""
    scale = min(Fraction(1), Fraction(short_side, min(width, height)))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def decode_spans(
    path: Path, source: SourceProbe, spans: Sequence[Span], settings: NormaliseSettings
) -> Iterator[NDArray[np.uint8]]:
    """Pictures (T, H, W, 3) RGB of each span in turn: at every tick the source frame whose time stamp is nearest.

    Raises:
        SourceError: decoding fails, or time runs backwards.
    """
    width, height = output_size(source.width, source.height, settings.short_side)
    shower = _Shower(width, height, source.rotation)
    choice = nearest_frames(decode_timed(path, source), _ticks(spans, settings.fps))
    for span in spans:
        frames = np.empty((span.num_frames(settings.fps), height, width, 3), np.uint8)
        for index in range(len(frames)):
            frames[index] = shower.show(next(choice))
        yield frames


def _ticks(spans: Sequence[Span], fps: int) -> Iterator[Fraction]:
    for span in spans:
        for index in range(span.num_frames(fps)):
            yield span.start + Fraction(index, fps)


def nearest_frames(
    timed_frames: Iterator[tuple[Fraction, av.VideoFrame]], ticks: Iterator[Fraction]
) -> Iterator[av.VideoFrame]:
    """For each of the ascending `ticks` the frame nearest in time, the earlier of two equally near.

    Only two frames are held at a time, so a source may be long.
    """
    time, current = next(timed_frames)
    upcoming = next(timed_frames, None)
    switch = _midpoint(time, upcoming)
    for tick in ticks:
        while upcoming is not None and tick > switch:
            time, current = upcoming
            upcoming = next(timed_frames, None)
            switch = _midpoint(time, upcoming)
        yield current


def _midpoint(time: Fraction, upcoming: tuple[Fraction, av.VideoFrame] | None) -> Fraction:
    return time if upcoming is None else (time + upcoming[0]) / 2


def decode_timed(path: Path, source: SourceProbe) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames with their time after the first one in seconds, in order; of several at one time the first.

    Raises:
        SourceError: time runs backwards, or there is no picture.
    """
    last: Fraction | None = None
    for time, frame in in_order(_decoded(path, source)):
        if last is not None and time < last:
            raise SourceError("damaged", f"picture time runs backwards from {float(last):.3f} s")
        if last is None or time > last:
            yield time, frame
        last = time
    if last is None:
        raise SourceError("damaged", "no picture can be decoded")


def in_order(timed_frames: Iterator[tuple[Fraction, FrameT]]) -> Iterator[tuple[Fraction, FrameT]]:
    """The same frames in the same order, their times sorted over a few frames.

    A container without time stamps of display (AVI, careless remuxes) gives those of storage, in which B-frames jump
    back and forth; the decoder's order is right then, and the stamps are right but for their order.
    """
    frames: deque[FrameT] = deque()
    times: list[Fraction] = []
    for time, frame in timed_frames:
        frames.append(frame)
        heapq.heappush(times, time)
        if len(frames) > _REORDERED:
            yield heapq.heappop(times), frames.popleft()
    while frames:
        yield heapq.heappop(times), frames.popleft()


def _decoded(path: Path, source: SourceProbe) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    started = False
    with open_media(path, source.max_pixels) as container:
        stream = container.streams[source.video_index]
        for packet in container.demux(stream):
            for frame in decode_packet(packet, started):
                started = True
                # A stream may change its size midway.
                check_pixels(frame.width, frame.height, source.max_pixels)
                yield frame_time(frame) - source.origin, frame


class _Shower:
    """Turns decoded frames into upright RGB pictures of one size; a picture shown twice is converted once."""

    def __init__(self, width: int, height: int, rotation: int) -> None:
        self._turns = rotation // 90
        self._size = (height, width) if self._turns % 2 else (width, height)
        # One persistent converter: a frame's own reformat() builds a new one each call, ten times slower.
        self._reformatter = VideoReformatter()
        self._last: tuple[av.VideoFrame, NDArray[np.uint8]] | None = None

    def show(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The picture (H, W, 3) of `frame`."""
        if self._last is None or self._last[0] is not frame:
            self._last = frame, np.rot90(self._small(frame).to_ndarray(), self._turns)
        return self._last[1]

    def _small(self, frame: av.VideoFrame) -> av.VideoFrame:
        # Only pictures of high dynamic range: the table of their conversion takes seconds once, and others need none.
        hdr = frame.color_trc in _HIGH_DYNAMIC_RANGE
        return self._reformatter.reformat(
            frame,
            *self._size,
            "rgb24",
            interpolation="AREA",
            threads=1,
            dst_color_trc=ColorTrc.BT709 if hdr else None,
            dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
        )

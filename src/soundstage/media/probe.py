"""Look at a file before decoding it: what it holds, where its clock starts, whether it keeps to the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
from av.stream import Disposition

from .opening import SourceError, check_boxes, check_pixels, check_sound, decode_packet, frame_time, open_media, reading

StreamT = TypeVar("StreamT", av.VideoStream, av.AudioStream)

# A header may round, or count a stream that ends a little later; a file cut short misses more than this.
_MISSING_SEC = Fraction(1, 2)
_MISSING_SHARE = Fraction(1, 20)


@dataclass(frozen=True)
class Limits:
    """What a source must keep to."""

    min_duration_sec: float
    max_duration_sec: float
    max_pixels: int


@dataclass(frozen=True)
class SourceProbe:
    """What a source holds. Times are seconds."""

    origin: Fraction
    """container time of the first video frame; every other time is relative to it"""
    duration: Fraction
    """from the first video frame to the end of the last one"""
    width: int
    """of the picture as shown: sample aspect and rotation applied"""
    height: int
    rotation: int
    """turn that shows the picture upright, counter-clockwise: 0, 90, 180 or 270 degrees"""
    video_index: int
    """container index of the video stream"""
    audio_index: int
    video_codec: str
    audio_codec: str
    channels: int
    """of the source's audio"""
    max_pixels: int
    """limit that every picture must keep to"""


def probe(path: Path, limits: Limits) -> SourceProbe:
    """Read header, packet time stamps and the first picture of `path`.

    Raises:
        SourceError: not a video, damaged, without picture or sound, or outside the limits.
    """
    with open_media(path, limits.max_pixels) as container:
        check_boxes(path)
        video, audio = _choose_streams(container)
        check_pixels(video.codec_context.width, video.codec_context.height, limits.max_pixels)
        check_sound(audio.codec_context.sample_rate, audio.codec_context.channels)
        _check_length(_announced(container)[1], limits, "header")
        scan = _Scan(limits, video.index, audio.index)
        with reading():
            for packet in container.demux():
                scan.add(packet)
            scan.check_complete(container)
            return _describe(video, audio, scan, limits)


def _choose_streams(container: av.container.InputContainer) -> tuple[av.VideoStream, av.AudioStream]:
    """The moving picture and the sound marked as default, else the first of each; cover art is no video."""
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        covers = len(container.streams.video)
        raise SourceError("no_video", f"no video stream; attached pictures: {covers}")
    if not container.streams.audio:
        raise SourceError("no_audio", "no audio stream")
    video, audio = _default(videos), _default(container.streams.audio)
    for stream in (video, audio):
        if stream.codec_context is None:
            raise SourceError("damaged", f"no decoder for the codec of {stream.type} stream {stream.index}")
    return video, audio


def _default(streams: Sequence[StreamT]) -> StreamT:
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def _check_length(duration: Fraction, limits: Limits, origin: str) -> None:
    if duration > limits.max_duration_sec:
        raise SourceError(
            "too_long",
            f"{float(duration):.3f} s by its {origin}; at most {limits.max_duration_sec:g} s allowed "
            "(ingest.max_duration_sec)",
        )


def _announced(container: av.container.InputContainer) -> tuple[Fraction, Fraction]:
    """End and duration of the contents by the header, zero when it does not say."""
    start = Fraction(container.start_time or 0, av.time_base)
    stated = Fraction(container.duration or 0, av.time_base)
    # Matroska counts its duration from time zero, the others from the first time stamp.
    return (stated, stated - start) if "matroska" in container.format.name else (start + stated, stated)


class _Scan:
    """One pass over all packets: the first picture is decoded, of the others only the time stamps are read."""

    def __init__(self, limits: Limits, video_index: int, audio_index: int) -> None:
        self._limits, self._video, self._audio = limits, video_index, audio_index
        self.first_frame: av.VideoFrame | None = None
        self.end = Fraction(0)
        self.video_packets = self.audio_packets = 0
        self._earliest: Fraction | None = None
        self._latest: list[tuple[Fraction, Fraction]] = []
        """time stamp and length of the two latest pictures"""

    def add(self, packet: av.Packet[Any]) -> None:
        """Take note of one packet."""
        if packet.stream_index == self._video and self.first_frame is None:
            self._decode(packet)
        stamp = packet.pts if packet.pts is not None else packet.dts
        if not packet.size or stamp is None:
            return
        if packet.is_corrupt and packet.stream_index in (self._video, self._audio):
            raise SourceError("damaged", f"stream {packet.stream_index} is cut off in the middle of a packet")
        start = stamp * packet.time_base
        length = (packet.duration or 0) * packet.time_base
        self.end = max(self.end, start + length)
        if packet.stream_index == self._audio:
            self.audio_packets += 1
        # Packets an edit list hides are decoded for reference only.
        if packet.stream_index == self._video and not packet.is_discard:
            self._add_video(start, length)

    def _add_video(self, start: Fraction, length: Fraction) -> None:
        self.video_packets += 1
        self._earliest = start if self._earliest is None else min(start, self._earliest)
        _check_length(start - self._earliest, self._limits, "time stamps")
        self._latest = sorted({(start, length), *self._latest})[-2:]

    def video_end(self, video: av.VideoStream) -> Fraction:
        """End of the last picture: as long as stated, else as long as the one before, else by the stream's rate."""
        start, length = self._latest[-1]
        rate = video.average_rate or video.guessed_rate
        return start + (length or start - self._latest[0][0] or (1 / Fraction(rate) if rate else Fraction(0)))

    def _decode(self, packet: av.Packet[av.VideoStream]) -> None:
        # The empty packet at the end brings out what a decoder with delay keeps of a short stream.
        self.first_frame = next(iter(decode_packet(packet, started=False)), None)

    def check_complete(self, container: av.container.InputContainer) -> None:
        """Refuse a file whose packets end well before its header says."""
        if not self.video_packets:
            stated = container.streams[self._video].frames
            if stated:
                raise SourceError("damaged", f"the header announces {stated} pictures, none can be read")
            raise SourceError("no_video", "the video stream holds no picture")
        if not self.audio_packets:
            raise SourceError("no_audio", "the audio stream holds no sound")
        end, announced = _announced(container)
        missing = end - self.end
        if missing > max(_MISSING_SEC, announced * _MISSING_SHARE):
            raise SourceError(
                "damaged",
                f"the header announces {float(announced):.3f} s, the data ends {float(missing):.3f} s before that",
            )


def _describe(video: av.VideoStream, audio: av.AudioStream, scan: _Scan, limits: Limits) -> SourceProbe:
    frame = scan.first_frame
    if frame is None:
        raise SourceError("damaged", f"none of {scan.video_packets} video packets can be decoded")
    check_pixels(frame.width, frame.height, limits.max_pixels)
    width, height, rotation = _shown_size(frame, video)
    check_pixels(width, height, limits.max_pixels)
    origin = frame_time(frame)
    duration = scan.video_end(video) - origin
    # Again with the last picture, whose stated length may be anything.
    _check_length(duration, limits, "last picture")
    if duration < limits.min_duration_sec:
        raise SourceError(
            "too_short",
            f"{float(duration):.3f} s of video; at least {limits.min_duration_sec:g} s needed "
            "(ingest.min_duration_sec)",
        )
    return SourceProbe(
        origin=origin,
        duration=duration,
        width=width,
        height=height,
        rotation=rotation,
        video_index=video.index,
        audio_index=audio.index,
        video_codec=video.codec_context.name,
        audio_codec=audio.codec_context.name,
        channels=audio.codec_context.channels,
        max_pixels=limits.max_pixels,
    )


def _shown_size(frame: av.VideoFrame, video: av.VideoStream) -> tuple[int, int, int]:
    aspect = Fraction(video.sample_aspect_ratio or 1)
    width, height = max(1, round(frame.width * aspect)), frame.height
    rotation = round(frame.rotation / 90) % 4 * 90
    return (height, width, rotation) if rotation in (90, 270) else (width, height, rotation)

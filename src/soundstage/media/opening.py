"""Open and decode files of unknown origin.

A source is untrusted: it is opened by a list of containers and by the file protocol alone, so that a playlist in
disguise cannot make the demuxer open something else, and whatever decoding raises is the source's own failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ..errors import DataError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf"
_OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"udta", b"meta", b"uuid", b"mfra"})
# First bytes of the containers above: (offset, bytes). A file that starts like one and cannot be opened is a broken
# one; any other was never a video.
_SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"FLV"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"),
    (0, b"\x00\x00\x01\xba"),
)


class SourceError(DataError):
    """A source that cannot become a clip; `reason` is one of the reject reasons, the message is the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """Open `path` as one of `CONTAINERS`, decoding in this thread alone.

    Raises:
        SourceError: `not_media` or `damaged`.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError("not_media", "the file is empty")
    try:
        # The explicit protocol keeps a colon in a file name from being read as one.
        container = av.open(f"file:{path.absolute()}", options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(*_why_not_opened(path, error)) from error
    with container:
        for stream in container.streams:
            if stream.codec_context is not None:
                stream.codec_context.thread_count = 1
        yield container


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever decoding raises into `damaged`: hostile bytes fail in many ways, one file is all they may cost."""
    try:
        yield
    except (SourceError, MemoryError):
        raise
    except Exception as error:
        raise SourceError("damaged", f"decoding {path.name} fails: {_words(error)}") from error


def _words(error: Exception) -> str:
    # FFmpeg's errors repeat number and path; the plain words are the detail.
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def _why_not_opened(path: Path, error: Exception) -> tuple[str, str]:
    if isinstance(error, OSError) and not isinstance(error, av.error.InvalidDataError):
        return "not_media", f"cannot be opened: {_words(error)}"
    with path.open("rb") as stream:
        head = stream.read(16)
    if any(head[offset : offset + len(mark)] == mark for offset, mark in _SIGNATURES):
        return "damaged", f"starts like a video, but its container cannot be read: {_words(error)}"
    return "not_media", f"no video container is recognised: {_words(error)}"


def check_boxes(path: Path) -> None:
    """Refuse an MP4 or QuickTime file whose last box is longer than what is left of the file.

    Demuxers read what they can of an index cut in half and then lack streams or pictures without a word. A box is
    [size: 4 bytes][type: 4 bytes][size: 8 bytes if the first is 1]..., big-endian; size 0 reaches to the end
    (ISO/IEC 14496-12, 4.2).

    Raises:
        SourceError: `damaged`.
    """
    length = path.stat().st_size
    with path.open("rb") as stream:
        position = 0
        while position + 8 <= length:
            stream.seek(position)
            head = stream.read(16)
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if kind not in _BOXES or size < 8:
                return
            position += size
            if position > length:
                raise SourceError(
                    "damaged", f"cut short: its {kind.decode()!r} box misses {position - length} of {size} bytes"
                )


def decode_packet(packet: av.Packet[Any], started: bool) -> list[Any]:
    """Frames that come out of the decoder after `packet`; `started` tells whether any came before.

    A stream cut out of a longer one begins with blocks whose reference is missing: those are skipped. Later ones are
    damage.

    Raises:
        av.error.FFmpegError: damage.
    """
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        if started:
            raise
        return []


def frame_time(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    """Container time of a decoded frame in seconds.

    Raises:
        SourceError: the frame carries no time stamp, so its place is unknown.
    """
    stamp = frame.pts if frame.pts is not None else frame.dts
    if stamp is None or frame.time_base is None:
        raise SourceError("damaged", "a frame carries no time stamp")
    return Fraction(stamp * frame.time_base)

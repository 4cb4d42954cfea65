"""Open and decode files of unknown origin.

A source is untrusted: it is opened by a list of containers and by the file protocol alone, so that a playlist in
disguise cannot make the demuxer open something else, and whatever decoding raises is the source's own failure. Sizes
that a file states are limited before a decoder allocates by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av

from ..errors import DataError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf"
_OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 2_000, 768_000
"""Hz"""
MAX_CHANNELS = 64
MAX_SIDE = 16384
"""pixels; the largest that x264 encodes"""

# Decoders allocate whole blocks, so theirs is a wider limit than that on the picture.
_PIXEL_SLACK, _PIXELS_ALWAYS = 2, 1 << 20
# The second is said beyond FFmpeg's own limit.
_REFUSAL = re.compile(r"Picture size ([1-9]\d*x[1-9]\d*) (?:exceeds specified max pixel count|is invalid)")

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


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse pictures over the limit, and those with a side that no clip can be encoded at.

    Raises:
        SourceError: `too_large`.
    """
    if width * height > max_pixels:
        raise SourceError("too_large", f"{width}x{height} pixels; at most {max_pixels} allowed (ingest.max_pixels)")
    if max(width, height) > MAX_SIDE:
        raise SourceError("too_large", f"{width}x{height} pixels; at most {MAX_SIDE} a side can be encoded")


def check_sound(sample_rate: int, channels: int) -> None:
    """Refuse sample rates and numbers of channels that no recording has: resamplers allocate by them.

    Raises:
        SourceError: `too_large`, or `damaged` when there are too few.
    """
    if sample_rate > MAX_SAMPLE_RATE or channels > MAX_CHANNELS:
        raise SourceError(
            "too_large",
            f"sound of {channels} channels at {sample_rate} Hz; at most {MAX_CHANNELS} at {MAX_SAMPLE_RATE} Hz is read",
        )
    if sample_rate < MIN_SAMPLE_RATE or channels < 1:
        raise SourceError(
            "damaged",
            f"sound of {channels} channels at {sample_rate} Hz; at least 1 at {MIN_SAMPLE_RATE} Hz is expected",
        )


@contextmanager
def open_media(path: Path, max_pixels: int) -> Iterator[av.container.InputContainer]:
    """Open `path` as one of `CONTAINERS`, decoding in this thread alone and no picture far over `max_pixels`.

    Containers that announce their streams as they go (MPEG streams, FLV) are looked into without that limit; the
    process's memory is what protects there.

    Raises:
        SourceError: `not_media`, `damaged` or `too_large`.
        MemoryError: a size in the header asks for more than the process may have.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError("not_media", "the file is empty")
    decoding = {"max_pixels": str(_PIXEL_SLACK * max_pixels + _PIXELS_ALWAYS)}
    with _opened(path, _OPEN_OPTIONS | decoding) as container:
        for stream in container.streams:
            if stream.codec_context is not None:
                stream.codec_context.thread_count = 1
                stream.codec_context.options = decoding
        yield container


@contextmanager
def _opened(path: Path, options: dict[str, str]) -> Iterator[av.container.InputContainer]:
    with ExitStack() as stack:
        try:
            with _refused_pictures():
                container = av.open(_address(path, stack), "r", options=options, metadata_errors="replace")
        except (MemoryError, SourceError):
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(*_why_not_opened(path, error)) from error
        yield stack.enter_context(container)


def _address(path: Path, stack: ExitStack) -> str | BinaryIO:
    """What to open: a URL whose explicit protocol keeps a colon in a file name from being read as one."""
    url = f"file:{path.absolute()}"
    try:
        url.encode()
    except UnicodeEncodeError:
        # A name that is no UTF-8 cannot be passed on as text.
        return stack.enter_context(path.open("rb"))
    return url


@contextmanager
def _refused_pictures() -> Iterator[None]:
    """Raise `too_large` when a decoder refuses a picture for its size: it says so in its log alone."""
    level, skip_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Else a message that was said of an earlier file is held back here, or comes late.
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as said:
            try:
                yield
            finally:
                _check_refusal(said)
    finally:
        av.logging.set_skip_repeated(skip_repeated)
        av.logging.set_level(level)


def _check_refusal(said: list[tuple[int, str, str]]) -> None:
    for _, _, words in said:
        if found := _REFUSAL.search(words):
            raise SourceError("too_large", f"the decoder refuses a picture of {found[1]} pixels (ingest.max_pixels)")


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever decoding raises into `damaged`: hostile bytes fail in many ways, one file is all they may cost."""
    try:
        yield
    except (SourceError, MemoryError):
        raise
    except Exception as error:
        raise SourceError("damaged", f"decoding fails: {_words(error)}") from error


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
    damage, and so are those that the decoder patched up.

    Raises:
        SourceError: `too_large`, or `damaged`.
        av.error.FFmpegError: damage.
    """
    try:
        with _refused_pictures():
            frames = list(packet.decode())
    except av.error.InvalidDataError:
        if started:
            raise
        return []
    if started and any(frame.is_corrupt for frame in frames):
        raise SourceError("damaged", f"stream {packet.stream_index} holds broken frames that its decoder patched up")
    return [frame for frame in frames if not frame.is_corrupt]


def frame_time(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    """Container time of a decoded frame in seconds.

    Raises:
        SourceError: the frame carries no time stamp, so its place is unknown.
    """
    stamp = frame.pts if frame.pts is not None else frame.dts
    if stamp is None or frame.time_base is None:
        raise SourceError("damaged", "a frame carries no time stamp")
    return Fraction(stamp * frame.time_base)

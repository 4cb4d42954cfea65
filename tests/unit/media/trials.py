"""Films of one event, a bright picture and a click at one time, and ways in which a file can be broken or hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from .makers import RATE, pulses, write_source

EVENT_SEC = 1.25
DURATION_SEC = 2.5
DARK, BRIGHT = 40, 220
LARGE = 8192


def film(
    path: Path,
    *,
    times: Sequence[float] | None = None,
    fps: int = 12,
    start: float = 0.0,
    event: float = EVENT_SEC,
    duration: float = DURATION_SEC,
    size: tuple[int, int] = (64, 48),
    shade: int = DARK,
    gains: Sequence[float] = (1.0,),
    rate: int = RATE,
    sound_from: float = 0.0,
    **settings: Any,
) -> Path:
    """A dark film that is bright for a twelfth of a second around `event`, where it clicks; seconds after `start`.

    The left upper quarter is brighter by 40, so that turns can be told. `gains` are those of the channels.
    """
    times = np.arange(round(duration * fps)) / fps if times is None else np.asarray(times)
    width, height = size
    pictures = []
    for time in times:
        picture = np.full((height, width, 3), BRIGHT if abs(time - event) < 1 / 24 else shade, np.uint8)
        picture[: height // 2, : width // 2] = np.minimum(picture[: height // 2, : width // 2] + np.uint8(30), 250)
        pictures.append(picture)
    click = pulses(duration - sound_from, event - sound_from, rate=rate)
    sound = np.asarray(gains, np.float32)[:, None] * click
    return write_source(path, pictures, list(start + times), [(start + sound_from, sound)], rate=rate, **settings)


def cut_at(path: Path, share: float) -> Path:
    """Keep the first `share` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Change a file's bytes in place."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))
    return path


def scramble(path: Path, first: float, last: float, every: int = 1) -> Path:
    """Overwrite each `every`-th byte of an MP4's media data with noise, from share `first` to share `last` of it."""

    def change(data: bytearray) -> None:
        start = data.index(b"mdat") + 4
        size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
        rng = np.random.default_rng(0)
        for position in range(start + int(first * size), start + int(last * size), every):
            data[position] = int(rng.integers(256))

    return patched(path, change)


def start_later(path: Path, seconds: Fraction) -> Path:
    """Let the edit list of each track of an MP4 begin `seconds` further into its media.

    An edit list is [size][elst][version, flags: 4][count: 4] and for each edit [duration: 4][media time: 4][rate: 4],
    the duration in the movie's clock, the media time in the track's (ISO/IEC 14496-12, 8.6.6).
    """

    def change(data: bytearray) -> None:
        movie_clock = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
        position = 0
        while (position := data.find(b"elst", position + 1)) > 0:
            clock = int.from_bytes(data[data.index(b"mdhd", position) + 16 :][:4], "big")
            duration, media_time = struct.unpack_from(">Ii", data, position + 12)
            moved = duration - int(seconds * movie_clock), media_time + int(seconds * clock)
            struct.pack_into(">Ii", data, position + 12, *moved)

    return patched(path, change)


@cache
def one_picture(codec: str, size: tuple[int, int]) -> bytes:
    """A dark picture, encoded."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = size
    context.pix_fmt, context.time_base = "gray", Fraction(1, 12)
    frame = av.VideoFrame(*size, "gray")
    frame.planes[0].update(bytes([DARK]) * frame.planes[0].buffer_size)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])


def packets_as_film(
    path: Path, pictures: Sequence[bytes], size: tuple[int, int] = (64, 48), codec: str = "png"
) -> Path:
    """Pictures that were encoded already, at 12 a second with silence; the header says `size`."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=12)
        video.width, video.height, video.pix_fmt = *size, "gray"
        sound = sound_stream(container)
        container.start_encoding()
        for index, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.time_base = video, Fraction(1, 12)
            packet.pts = packet.dts = index
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
        write_sound(container, sound, pulses(2.0, 1.0))
    return path


def sound_only(path: Path) -> Path:
    """An MP4 of sound alone."""
    with av.open(str(path), "w") as container:
        write_sound(container, sound_stream(container), pulses(3.0))
    return path


def cover_art(path: Path, moving: Path | None = None) -> Path:
    """An MP4 with an attached picture, and sound; with the moving picture and the sound of `moving` when given."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        if moving is None:
            sound = sound_stream(container)
            container.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
            write_sound(container, sound, pulses(3.0))
        else:
            with av.open(str(moving)) as source:
                copies = [container.add_stream_from_template(stream) for stream in source.streams]
                container.mux(cover.encode(av.VideoFrame(32, 32, "yuvj420p")))
                copy_packets(source, container, copies)
            moving.unlink()
    with av.open(str(path)) as container:
        covers = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
        assert len(covers) == 1, "the trial itself must hold a picture"
    return path


def sound_stream(container: av.container.OutputContainer) -> Any:
    """A stream of mono sound at RATE; all streams are there before the first packet is written."""
    return container.add_stream("aac", rate=RATE, layout="mono")


def write_sound(container: av.container.OutputContainer, stream: Any, wave: NDArray[np.float32]) -> None:
    """Write a sound as one block."""
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate = RATE
    container.mux([*stream.encode(frame), *stream.encode()])


def copy_packets(
    source: av.container.InputContainer, container: av.container.OutputContainer, copies: Sequence[Any]
) -> None:
    """Write all packets of `source`, each to the copy of its stream."""
    for packet in source.demux():
        if packet.size:
            packet.stream = copies[packet.stream_index]
            container.mux(packet)


def several_streams(path: Path, first: Path, default: Path) -> Path:
    """The streams of two films in one file: those of `default`, marked so, after those of `first`."""
    with av.open(str(first)) as one, av.open(str(default)) as two, av.open(str(path), "w") as container:
        copies = [[container.add_stream_from_template(stream) for stream in film.streams] for film in (one, two)]
        for stream in copies[0]:
            stream.disposition = Disposition(0)
        for stream in copies[1]:
            stream.disposition = Disposition.default
        copy_packets(one, container, copies[0])
        copy_packets(two, container, copies[1])
    first.unlink()
    default.unlink()
    return path


def stamps_of_storage(path: Path, film_with_b_frames: Path) -> Path:
    """A copy in Matroska whose pictures carry the time of storage in place of that of display."""
    with av.open(str(film_with_b_frames)) as source, av.open(str(path), "w") as container:
        copies = [container.add_stream_from_template(stream) for stream in source.streams]
        first: int | None = None
        for packet in source.demux():
            if not packet.size:
                continue
            if packet.stream_index == 0:
                first = packet.dts if first is None else first
                packet.pts = packet.dts = packet.dts - first
            packet.stream = copies[packet.stream_index]
            container.mux(packet)
    film_with_b_frames.unlink()
    return path


def flash_time(frames: NDArray[np.uint8], fps: float) -> float:
    """Centre of the bright pictures of a film, in seconds; the lower right quarter tells."""
    level = frames[:, frames.shape[1] // 2 :, frames.shape[2] // 2 :].mean(axis=(1, 2, 3))
    bright = np.flatnonzero(level > (level.min() + level.max()) / 2)
    return float(bright.mean()) / fps


def click_time(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Place of the loudest sample in seconds."""
    return float(np.abs(waveform).argmax()) / sample_rate

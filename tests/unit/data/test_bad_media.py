"""One run of ingestion over every kind of bad, odd and hostile file: each is kept rightly or refused by its reason."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from soundstage.data.records import REJECT_REASONS
from soundstage.media.decode import DecodedClip, decode_clip

from ..media.makers import pulses, solid, turn, write_source
from ..media.trials import (
    EVENT_SEC,
    LARGE,
    click_time,
    cover_art,
    cut_at,
    film,
    flash_time,
    one_picture,
    packets_as_film,
    patched,
    scramble,
    several_streams,
    sound_only,
    stamps_of_storage,
    start_later,
)
from .ingesting import Ingested

FPS = 24
X265 = "log-level=error:pools=1:frame-threads=1"
PQ = {"x265-params": f"{X265}:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}
HLG = {"x265-params": f"{X265}:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"}
INTERLACED = {"flags": "+ildct+ilme", "x264-params": "tff=1"}


@dataclass(frozen=True)
class Kept:
    """A clip comes of it, in which the flash and the click are at `event` seconds."""

    event: float | None = EVENT_SEC
    """None: nothing flashes"""
    click: float | None = EVENT_SEC
    """None: it is silent"""
    size: tuple[int, int] = (64, 48)
    peak: float = 0.9
    channels: int = 1
    seconds: float = 2.5


@dataclass(frozen=True)
class Refused:
    """A reject comes of it."""

    reason: str
    words: str
    """what the detail says, a pattern"""


def overwritten(path: Path, mark: bytes, offset: int, data: bytes) -> Path:
    """Overwrite bytes at `offset` after the first `mark`."""

    def change(content: bytearray) -> None:
        place = content.index(mark) + offset
        content[place : place + len(data)] = data

    return patched(path, change)


def declared_size(path: Path) -> Path:
    """An AVI of raw pictures whose header claims 65535 x 65535 (BITMAPINFOHEADER: width and height after its size)."""
    film(path, codec="rawvideo", options={}, audio_codec="pcm_s16le")
    return overwritten(path, b"strf", 12, struct.pack("<ii", 65535, 65535))


def wave_format(path: Path, channels: int, rate: int) -> Path:
    """An AVI whose sound claims this (WAVEFORMATEX: tag, channels, rate; the second `strf` of the file)."""

    def change(content: bytearray) -> None:
        place = content.index(b"strf", content.index(b"auds")) + 8
        struct.pack_into("<HI", content, place + 2, channels, rate)

    return patched(film(path, codec="mjpeg", pix_fmt="yuvj420p", options={}, audio_codec="pcm_s16le"), change)


def long_last_picture(path: Path) -> Path:
    """An MP4 whose last picture lasts for a day: the last entry of the table of times to samples (`stts`)."""
    film(path, options={"bf": "0"})

    def change(content: bytearray) -> None:
        place = content.index(b"stts")
        count = int.from_bytes(content[place + 8 : place + 12], "big")
        struct.pack_into(">I", content, place + 12 + 8 * count - 4, 0x7FFFFFFF)

    return patched(path, change)


def saved(path: Path, kind: str) -> Path:
    """A picture, named like a video."""
    frames = [Image.new("L", (64, 48), shade) for shade in (40, 220, 40)]
    frames[0].save(path, kind, **({"save_all": True, "append_images": frames[1:]} if kind == "GIF" else {}))
    return path


def linked(path: Path, target: str) -> Path:
    """A symbolic link."""
    path.symlink_to(target)
    return path


PNG, BOMB = one_picture("png", (64, 48)), (LARGE, LARGE)
BESIDE = "beside.tmp.mp4"

Make = Callable[[Path], object]

REFUSED: dict[str, tuple[Make, Refused]] = {
    "empty.mp4": (Path.touch, Refused("not_media", "empty")),
    "text.mp4": (lambda p: p.write_text("words\n" * 99), Refused("not_media", "no video container")),
    "page.mp4": (lambda p: p.write_text("<!doctype html><title>404</title>"), Refused("not_media", "no video")),
    "photo.mp4": (lambda p: saved(p, "PNG"), Refused("not_media", "no video container")),
    "gif.mp4": (lambda p: saved(p, "GIF"), Refused("not_media", "no video container")),
    "folder.mp4": (Path.mkdir, Refused("not_media", "a folder")),
    "dangling.mp4": (lambda p: linked(p, "nowhere.mp4"), Refused("not_media", "leads nowhere")),
    "circle.mp4": (lambda p: linked(p, "circle.mp4"), Refused("not_media", "leads nowhere")),
    "pipe.mp4": (os.mkfifo, Refused("not_media", "a pipe")),
    "cut before its index.mp4": (lambda p: cut_at(film(p), 0.6), Refused("damaged", "container cannot be read")),
    "cut after its index.mp4": (
        lambda p: cut_at(film(p, mux_options={"movflags": "+faststart"}), 0.7),
        Refused("damaged", "'mdat' box misses"),
    ),
    "cut in its index.mp4": (lambda p: cut_at(film(p), 0.97), Refused("damaged", "'moov' box misses")),
    "cut.mkv": (lambda p: cut_at(film(p), 0.6), Refused("damaged", "header announces 2.5")),
    "noise.mp4": (lambda p: scramble(film(p), 0.0, 1.0), Refused("damaged", "none of 30 video packets")),
    # What was good before the damage is not kept: where its sound and picture part is not known.
    "damaged later.mp4": (lambda p: scramble(film(p), 0.3, 0.6, 37), Refused("damaged", "decod|broken")),
    "no sound.mp4": (
        lambda p: write_source(p, [solid(90)] * 30, [i / 12 for i in range(30)]),
        Refused("no_audio", "no audio stream"),
    ),
    "sound only.mp4": (sound_only, Refused("no_video", "no video stream")),
    "cover art.mp4": (cover_art, Refused("no_video", "attached pictures: 1")),
    "one picture.mp4": (lambda p: film(p, times=[0.0], event=0.1), Refused("too_short", "0.083 s of video")),
    "bomb.mov": (lambda p: packets_as_film(p, [one_picture("png", BOMB)], BOMB), Refused("too_large", "8192x8192")),
    "hidden bomb.mov": (
        lambda p: packets_as_film(p, [PNG] * 12 + [one_picture("png", BOMB)] * 12),
        Refused("too_large", "8192x8192"),
    ),
    "grows.mov": (
        lambda p: packets_as_film(p, [PNG] * 12 + [one_picture("png", (1100, 1000))] * 12),
        Refused("too_large", "1100x1000"),
    ),
    "declared large.avi": (declared_size, Refused("too_large", "65535x65535")),
    "stretched.mp4": (
        lambda p: film(p, size=(1000, 32), aspect=Fraction(17)),
        Refused("too_large", "17000x32 pixels; at most 16384 a side"),
    ),
    "many pictures declared.mp4": (
        # A table of sizes (`stsz`) that claims two thousand million of one size.
        lambda p: overwritten(film(p), b"stsz", 8, struct.pack(">II", 1, 0x7FFFFFF0)),
        Refused("damaged", "header announces"),
    ),
    "years declared.mkv": (
        # The element Duration, a float64 in milliseconds.
        lambda p: overwritten(film(p), b"\x44\x89\x88", 3, struct.pack(">d", 1e12)),
        Refused("too_long", "by its header"),
    ),
    "lasting last picture.mp4": (long_last_picture, Refused("too_long", "by its last picture")),
    "1 Hz.avi": (lambda p: wave_format(p, 1, 1), Refused("damaged", "1 Hz; at least 1 at 2000 Hz")),
    "10 MHz.avi": (lambda p: wave_format(p, 1, 10_000_000), Refused("too_large", "at 10000000 Hz")),
    "255 channels.avi": (lambda p: wave_format(p, 255, 44100), Refused("too_large", "255 channels")),
    "not numbers.mov": (
        lambda p: film(p, gains=(float("nan"),), audio_codec="pcm_f32le"),
        Refused("damaged", "not finite"),
    ),
}

KEPT: dict[str, tuple[Make, Kept]] = {
    "plain.mp4": (film, Kept()),
    "plain.webm": (
        lambda p: film(p, codec="libvpx-vp9", options={"deadline": "realtime"}, audio_codec="libopus", rate=48000),
        Kept(),
    ),
    # A transport stream has no header that knows its end: what is there is taken.
    "cut.ts": (lambda p: cut_at(film(p), 0.6), Kept(seconds=1.58)),
    "1x1.mkv": (lambda p: film(p, size=(1, 1), codec="ffv1", options={}), Kept(size=(2, 2))),
    "odd.mp4": (lambda p: film(p, size=(63, 33)), Kept(size=(64, 32))),
    "variable rate.mp4": (
        lambda p: film(p, times=[0, 0.1, 0.15, 0.4, 0.45, 0.9, 1.15, 1.25, 1.35, 1.36, 2.0, 2.2, 2.4]),
        Kept(seconds=3.04),
    ),
    "1 fps.mp4": (lambda p: film(p, fps=1, duration=3.0, event=1.0), Kept(event=1.0, click=1.0, seconds=2.08)),
    "240 fps.mp4": (lambda p: film(p, fps=240), Kept()),
    "late sound.mp4": (lambda p: film(p, sound_from=0.7), Kept()),
    "sound after the end.mkv": (
        lambda p: write_source(p, [solid(90)] * 30, [i / 12 for i in range(30)], [(9.0, pulses(1.0, 0.5))]),
        Kept(event=None, click=None),
    ),
    "edit list.mp4": (
        lambda p: start_later(film(p), Fraction(1, 2)),
        Kept(event=EVENT_SEC - 0.5, click=EVENT_SEC - 0.5, seconds=2.0),
    ),
    "stamps of storage.mkv": (lambda p: stamps_of_storage(p, film(p.with_name(BESIDE))), Kept()),
    **{
        f"start at 100000 s.{suffix}": (lambda p: film(p, start=100_000.0), Kept())
        for suffix in ("mp4", "mkv", "ts", "flv")
    },
    "turned 90.mp4": (lambda p: turn(film(p), 90), Kept(size=(48, 64))),
    "turned 180.mp4": (lambda p: turn(film(p), 180), Kept()),
    "turned 270.mp4": (lambda p: turn(film(p), 270), Kept(size=(48, 64))),
    "wide pixels.mp4": (lambda p: film(p, aspect=Fraction(2)), Kept(size=(128, 48))),
    "changes size.mov": (
        lambda p: packets_as_film(p, [PNG] * 12 + [one_picture("png", (128, 96))] * 12),
        Kept(event=None, click=1.0, seconds=2.0),
    ),
    "interlaced.mp4": (lambda p: film(p, options=INTERLACED), Kept()),
    "limited range.mp4": (lambda p: film(p, pix_fmt="yuv420p", shade=50), Kept()),
    "full range.mp4": (lambda p: film(p, pix_fmt="yuvj420p", shade=50), Kept()),
    "PQ.mp4": (lambda p: film(p, codec="libx265", pix_fmt="yuv420p10le", options=PQ, shade=130), Kept()),
    "HLG.mp4": (lambda p: film(p, codec="libx265", pix_fmt="yuv420p10le", options=HLG, shade=128), Kept()),
    "opposite phase.mp4": (lambda p: film(p, layout="stereo", gains=(1, -1)), Kept(channels=2)),
    "one side.mp4": (lambda p: film(p, layout="stereo", gains=(1, 0)), Kept(channels=2, peak=0.45)),
    "both sides.mp4": (lambda p: film(p, layout="stereo", gains=(1, 1)), Kept(channels=2)),
    # Weight 0.5 of 4.414.
    "surround.mkv": (
        lambda p: film(p, layout="7.1", gains=(0, 0, 0, 0, 0, 0, 1, 0), audio_codec="flac"),
        Kept(channels=8, peak=0.102),
    ),
    "surround.mp4": (lambda p: film(p, layout="7.1", gains=(0, 0, 1, 0, 0, 0, 0, 0)), Kept(channels=8, peak=0.204)),
    "low frequencies only.mkv": (
        lambda p: film(p, layout="5.1", gains=(0, 0, 0, 1, 0, 0), audio_codec="flac"),
        Kept(channels=6),
    ),
    "11 nameless channels.mov": (
        lambda p: film(p, layout="11 channels", gains=(1,) * 11, audio_codec="pcm_s16le"),
        Kept(channels=11),
    ),
    "8 kHz.mp4": (lambda p: film(p, rate=8_000), Kept()),
    "96 kHz.mp4": (lambda p: film(p, rate=96_000), Kept()),
    "over full scale.mov": (lambda p: film(p, gains=(1e6,), audio_codec="pcm_f32le"), Kept(peak=1.0)),
    "with cover art.mp4": (lambda p: cover_art(p, film(p.with_name(BESIDE))), Kept()),
    "second is default.mkv": (
        lambda p: several_streams(p, film(p.with_name(BESIDE)), film(p.with_name(f"b{BESIDE}"), event=0.5, shade=60)),
        Kept(event=0.5, click=0.5),
    ),
}

NAMES = [
    "with  spaces .mp4",
    'it\'s "quoted" `so` $HOME.mp4',
    "\N{DRUM WITH DRUMSTICKS}\N{COLLISION SYMBOL}.mp4",
    "-rf --help.mp4",
    "line\nbreak\r.mp4",
    "a" * 245 + ".mp4",
    "concat:a|b?c#d%20.mp4",
    os.fsdecode(b"no \xff\xfe text.mp4"),
]
for number, name in enumerate(NAMES):
    # Equal bytes would be duplicates.
    KEPT[f"names/{name}"] = (lambda p, shade=60 + 2 * number: film(p, shade=shade), Kept())


def uri(name: str) -> str:
    """As records write it: bytes that are no UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    root = tmp_path_factory.mktemp("bad")
    (root / "films" / "names").mkdir(parents=True)
    for name, (make, _) in (REFUSED | KEPT).items():
        make(root / "films" / name)
    return Ingested(root / "films", root, max_pixels=1_000_000, max_duration_sec=60.0, worker_memory_gib=0.75)


def clip_of(ingested: Ingested, name: str) -> tuple[dict[str, Any], DecodedClip]:
    row = ingested.clip(uri(name))
    return row, decode_clip(ingested.workspace.resolve(row["media_uri"]))


def test_all_are_accounted_for(ingested: Ingested) -> None:
    assert len(REFUSED) + len(KEPT) >= 35
    assert {row["source_uri"] for row in ingested.clips} == {uri(name) for name in KEPT}
    assert {row["source_uri"] for row in ingested.rejects} == {uri(name) for name in REFUSED}
    assert len(ingested.clips) == len(KEPT)
    assert len(ingested.rejects) == len(REFUSED)
    assert not list(ingested.workspace.media.rglob("*.tmp"))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(ingested: Ingested, name: str) -> None:
    wanted = REFUSED[name][1]
    (row,) = (row for row in ingested.rejects if row["source_uri"] == name)
    assert wanted.reason in REJECT_REASONS
    with pytest.raises(ValueError, match=wanted.words):
        raise ValueError(row["detail"])
    assert row["reason"] == wanted.reason


@pytest.mark.parametrize("name", KEPT, ids=ascii)
def test_kept(ingested: Ingested, name: str) -> None:
    wanted = KEPT[name][1]
    row, clip = clip_of(ingested, name)
    assert clip.frames.shape == (row["num_frames"], *wanted.size[::-1], 3)
    assert (row["width"], row["height"], row["channels"]) == (*wanted.size, wanted.channels)
    assert row["num_frames"] / FPS == pytest.approx(wanted.seconds, abs=1 / FPS)
    if wanted.event is not None:
        assert flash_time(clip.frames, FPS) == pytest.approx(wanted.event, abs=1 / FPS)
    if wanted.click is None:
        assert np.abs(clip.waveform).max() < 1e-3
    else:
        assert click_time(clip.waveform, clip.sample_rate) == pytest.approx(wanted.click, abs=1 / FPS)
        # AAC and resampling shave or raise a pulse by some percent.
        assert np.abs(clip.waveform).max() == pytest.approx(wanted.peak, rel=0.15)


@pytest.mark.parametrize(
    ("name", "bright"),
    [("plain.mp4", (0, 0)), ("turned 90.mp4", (0, 1)), ("turned 180.mp4", (1, 1)), ("turned 270.mp4", (1, 0))],
)
def test_pictures_are_upright(ingested: Ingested, name: str, bright: tuple[int, int]) -> None:
    """The quarter at the upper left of the stored picture goes round with the clock; (row, column) of quarters."""
    frame = clip_of(ingested, name)[1].frames[6].mean(axis=2)
    height, width = frame.shape
    quarters = frame.reshape(2, height // 2, 2, width // 2).mean(axis=(1, 3))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == bright


def shade_of(clip: DecodedClip) -> float:
    """Level of the dark pictures."""
    return float(clip.frames[6:12, clip.frames.shape[1] // 2 + 4 :, clip.frames.shape[2] // 2 + 4 :].mean())


@pytest.mark.parametrize("name", ["limited range.mp4", "full range.mp4"])
def test_colour_range_makes_no_difference(ingested: Ingested, name: str) -> None:
    # Read in the wrong range, 50 becomes 40 or 59; rounded colours cost up to 3.
    assert shade_of(clip_of(ingested, name)[1]) == pytest.approx(50, abs=4)


def test_high_dynamic_range_is_shown_at_its_brightness(ingested: Ingested) -> None:
    """Greys by Recommendation ITU-R BT.2100 to cd/m2, 203 of which are BT.1886's white (gamma 2.4)."""
    power = np.maximum((130 / 255) ** (1 / 78.84375) - 0.8359375, 0) / (
        18.8515625 - 18.6875 * (130 / 255) ** (1 / 78.84375)
    )
    pq_nits = 10_000 * power ** (1 / 0.1593017578125)
    hlg_nits = 1_000 * ((128 / 255) ** 2 / 3) ** 1.2
    for name, nits in (("PQ.mp4", pq_nits), ("HLG.mp4", hlg_nits)):
        expected = 255 * (nits / 203) ** (1 / 2.4)
        # Without conversion the shades would be 130 and 128.
        assert shade_of(clip_of(ingested, name)[1]) == pytest.approx(expected, abs=5), name


def test_labels_and_captions_survive_odd_names(ingested: Ingested) -> None:
    for name in NAMES:
        row = ingested.clip(uri(f"names/{name}"))
        assert row["caption"].strip()
        assert row["media_uri"].isascii()

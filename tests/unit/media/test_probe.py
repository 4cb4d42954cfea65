"""Every way in which a file is no usable source has its own reason."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from soundstage.media.opening import SourceError
from soundstage.media.probe import Limits, SourceProbe, probe

from .makers import pulses, solid, turn_like_a_phone, write_plain, write_source
from .trials import cover_art, sound_only

LIMITS = Limits(min_duration_sec=1.0, max_duration_sec=10.0, max_pixels=64 * 64)


def cut_short(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def large(path: Path) -> Path:
    return write_source(path, [solid(90, 128, 96)] * 24, [i / 12 for i in range(24)], [(0.0, pulses(2.0))])


def stretched(path: Path) -> Path:
    pictures, times = [solid(90)] * 24, [i / 12 for i in range(24)]
    return write_source(path, pictures, times, [(0.0, pulses(2.0))], aspect=Fraction(4))


def still_tail(path: Path) -> Path:
    return write_source(path, [solid(90)] * 2, [0.0, 11.0], [(0.0, pulses(2.0))])


def scrambled(path: Path) -> Path:
    data = bytearray(write_plain(path, 3.0).read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    noise = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8).tobytes()
    data[start : start + len(noise)] = noise
    path.write_bytes(bytes(data))
    return path


CASES: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "empty": ("not_media", "empty", lambda folder: written(folder / "a.mp4", "")),
    "text": ("not_media", "no video container", lambda folder: written(folder / "a.mp4", "words, no video\n" * 50)),
    "playlist": (
        "not_media",
        "no video container",
        lambda folder: written(folder / "a.mp4", f"ffconcat version 1.0\nfile {write_plain(folder / 'b.mp4').name}\n"),
    ),
    "without index": (
        "damaged",
        "container cannot be read",
        lambda folder: cut_short(write_plain(folder / "a.mp4"), 0.6),
    ),
    "half an index": (
        "damaged",
        "'moov' box misses",
        lambda folder: cut_short(write_plain(folder / "a.mp4", 2.0), 0.97),
    ),
    "cut short": ("damaged", "header announces", lambda folder: cut_short(write_plain(folder / "a.mkv"), 0.6)),
    "scrambled": ("damaged", "decod", lambda folder: scrambled(folder / "a.mp4")),
    "sound only": ("no_video", "no video stream", lambda folder: sound_only(folder / "a.mp4")),
    "cover art": ("no_video", "attached pictures: 1", lambda folder: cover_art(folder / "a.mp4")),
    "silent film": (
        "no_audio",
        "no audio stream",
        lambda folder: write_source(folder / "a.mp4", [solid(90)] * 24, [i / 12 for i in range(24)]),
    ),
    "short": ("too_short", "0.500 s", lambda folder: write_plain(folder / "a.mp4", 0.5)),
    "long": ("too_long", "11.0", lambda folder: write_plain(folder / "a.mp4", 11.0)),
    "long by one picture": ("too_long", "11.0", lambda folder: still_tail(folder / "a.mkv")),
    "large": ("too_large", "128x96", lambda folder: large(folder / "a.mp4")),
    "large as shown": ("too_large", "256x48", lambda folder: stretched(folder / "a.mp4")),
}


@pytest.mark.parametrize("case", CASES)
def test_reasons(tmp_path: Path, case: str) -> None:
    reason, words, make = CASES[case]
    path = make(tmp_path)
    with pytest.raises(SourceError, match=words) as caught:
        probe(path, LIMITS)
    assert caught.value.reason == reason


def test_a_folder_is_not_media(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(SourceError, match="directory") as caught:
        probe(tmp_path / "x.mp4", LIMITS)
    assert caught.value.reason == "not_media"


def test_what_a_good_file_holds(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.mp4", 3.0)
    found = probe(path, LIMITS)
    assert found == SourceProbe(
        origin=Fraction(0),
        duration=found.duration,
        width=48,
        height=48,
        rotation=0,
        video_index=0,
        audio_index=1,
        video_codec="h264",
        audio_codec="aac",
        channels=1,
        max_pixels=LIMITS.max_pixels,
    )
    assert float(found.duration) == pytest.approx(3.0, abs=0.002)


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plain(tmp_path / "a.mp4", 2.0)
    (tmp_path / "a.mp4").rename(tmp_path / "concat:a.mp4")
    monkeypatch.chdir(tmp_path)
    assert probe(Path("concat:a.mp4"), LIMITS).width == 48


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.mp4", [solid(9)] * 24, [i / 12 for i in range(24)], [(0.0, pulses(2.0))])
    turn_like_a_phone(path)
    found = probe(path, LIMITS)
    assert (found.width, found.height, found.rotation) == (48, 64, 270)

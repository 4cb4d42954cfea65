"""Reading normalised clips at the size that is asked for."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from soundstage.errors import DataError
from soundstage.media.decode import View, decode_clip
from soundstage.media.encode import write_video

from .makers import pulses, solid, write_source


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.zeros((6, 48, 96, 3), np.uint8)
    frames[:, :, :48] = (220, 30, 30)
    frames[3:, :, 48:] = (30, 30, 220)
    write_video(tmp_path / "clip.mp4", frames, 24, np.zeros(11025, np.float32), 44100)
    return tmp_path / "clip.mp4"


def test_the_short_side_is_scaled_and_colours_stay(clip: Path) -> None:
    frames = decode_clip(clip, short_side=24).frames
    assert frames.shape == (6, 24, 48, 3)
    np.testing.assert_allclose(frames[:, :, 2:22].mean(axis=(0, 1, 2)), (220, 30, 30), atol=8)
    np.testing.assert_allclose(frames[3:, :, 26:46].mean(axis=(0, 1, 2)), (30, 30, 220), atol=8)
    assert frames[:2, :, 26:46].max() < 20


def test_grey_is_luma(clip: Path) -> None:
    grey = decode_clip(clip, pixels="gray")
    assert grey.frames.shape == (6, 48, 96)
    # ITU-R BT.601; the decoder may keep luma in its studio range of 16..235.
    luma = 0.299 * 220 + 0.587 * 30 + 0.114 * 30
    assert grey.frames[:, :, 4:44].mean() == pytest.approx(luma, abs=6)


def test_the_colour_of_a_grid_is_that_of_the_picture(clip: Path) -> None:
    assert decode_clip(clip).chroma is None
    chroma = decode_clip(clip, short_side=24, pixels="gray", chroma_grid=16).chroma
    assert chroma is not None
    assert chroma.shape == (6, 2, 16, 16)
    # ITU-R BT.601, studio range: Cb = 128 + 224/255 (B - Y) / 1.772, Cr = 128 + 224/255 (R - Y) / 1.402.
    red, blue = (220, 30, 30), (30, 30, 220)
    for columns, colour, frames in ((slice(1, 7), red, slice(0, 6)), (slice(9, 15), blue, slice(3, 6))):
        luma = np.dot((0.299, 0.587, 0.114), colour)
        expected = [128 + 224 / 255 * (colour[2] - luma) / 1.772, 128 + 224 / 255 * (colour[0] - luma) / 1.402]
        found = chroma[frames, :, :, columns].mean(axis=(0, 2, 3))
        np.testing.assert_allclose(found, expected, atol=4)
    np.testing.assert_allclose(chroma[:2, :, :, 9:15], 128, atol=3)


def test_the_grid_may_be_finer_than_the_colour_planes(tmp_path: Path) -> None:
    write_video(tmp_path / "small.mp4", np.full((4, 16, 20, 3), 90, np.uint8), 24, np.zeros(8000, np.float32), 16000)
    chroma = decode_clip(tmp_path / "small.mp4", chroma_grid=16).chroma
    assert chroma is not None
    np.testing.assert_allclose(chroma, 128, atol=2)


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00" * 4096])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.mp4 cannot be decoded"):
        decode_clip(tmp_path / "x.mp4")
    with pytest.raises(DataError, match=r"absent\.mp4 cannot be decoded"):
        decode_clip(tmp_path / "absent.mp4")


def test_a_clip_without_frame_rate_is_refused_and_not_guessed_at(tmp_path: Path) -> None:
    path = write_source(tmp_path / "x.mkv", [solid(90)], [0.0], [(0.0, pulses(0.5))], codec="mjpeg", pix_fmt="yuvj420p")
    # Matroska's DefaultDuration becomes an element that is passed over (RFC 9559, 5.1.4.1.13; RFC 8794, 11.3.2).
    data = bytearray(path.read_bytes())
    place = data.index(b"\x23\xe3\x83")
    data[place : place + 2] = bytes([0xEC, 0x80 | 2 + (data[place + 3] & 0x7F)])
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"x\.mkv .*no frame rate"):
        decode_clip(path)


def test_a_file_cut_short_is_named(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[:-700])
    with pytest.raises(DataError, match=r"clip\.mp4.*rerun `soundstage ingest`"):
        decode_clip(clip)


@pytest.mark.parametrize("width", [7, 48, 50, 64], ids=lambda width: f"{width} wide")
def test_pictures_are_those_of_pyav_whatever_fills_up_their_rows(tmp_path: Path, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", noise, 24, np.zeros(8000, np.float32), 16000)
    views = {"all": View((width, 33)), "some": View((width, 33), frozenset({1, 3})), "none": View(frames=frozenset())}
    clip = decode_clip(tmp_path / "clip.mp4", views=views)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = list(container.decode(video=0))
    expected = [frame.reformat(width, 33, "rgb24", interpolation="AREA").to_ndarray() for frame in frames]
    np.testing.assert_array_equal(clip.views["all"], expected)
    np.testing.assert_array_equal(clip.views["some"], [expected[1], expected[3]])
    assert clip.views["none"].shape == (0, 64, 64, 3)
    np.testing.assert_array_equal(clip.frames, [frame.to_ndarray(format="rgb24") for frame in frames])
    assert clip.frames.flags.writeable

from __future__ import annotations

import io
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from soundstage.errors import DataError
from soundstage.media.decode import decode_clip
from soundstage.media.encode import write_video
from soundstage.tracking.request import MAX_AUDIO_SEC, decode_image, decode_sound, encode_answer


def tone(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav_bytes(channels: NDArray[np.float32], rate: int) -> bytes:
    """(channels, samples) in -1..1 as 16-bit PCM, by the standard library's writer."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((channels.T * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_png_is_read_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(png_bytes(pixels)), pixels)


def test_picture_with_alpha_or_grey_becomes_rgb() -> None:
    grey = np.full((8, 8), 77, np.uint8)
    np.testing.assert_array_equal(decode_image(png_bytes(grey)), np.full((8, 8, 3), 77))


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", png_bytes(np.zeros((64, 64, 3), np.uint8))[:60]], ids=["empty", "text", "cut"]
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="expected PNG, JPEG"):
        decode_image(data)


def test_huge_picture_is_refused_before_its_pixels_are_decoded() -> None:
    data = io.BytesIO()
    Image.new("1", (8000, 8000)).save(data, "PNG")
    with pytest.raises(DataError, match="8000x8000"):
        decode_image(data.getvalue())


def test_wav_is_mixed_to_mono_at_its_own_rate() -> None:
    left, right = tone(0.5, 22050), np.zeros(11025, np.float32)
    waveform, rate = decode_sound(wav_bytes(np.stack([left, right]), 22050))
    assert rate == 22050
    assert waveform.dtype == np.float32
    # FFmpeg mixes at equal power (ITU-R BS.775: sqrt(1/2) of either), as ingest does; 16 bits leave 1e-4 of error.
    np.testing.assert_allclose(waveform, left * np.sqrt(0.5), atol=1e-4)


def test_sound_of_a_video_is_read(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", np.zeros((12, 32, 32, 3), np.uint8), 12, tone(1.0, 16000), 16000)
    waveform, rate = decode_sound((tmp_path / "v.mp4").read_bytes())
    assert rate == 16000
    spectrum = np.abs(np.fft.rfft(waveform[2000:14000]))
    assert np.argmax(spectrum) * rate / 12000 == pytest.approx(440, abs=2)


def test_long_sound_is_read_no_further_than_needed() -> None:
    waveform, rate = decode_sound(wav_bytes(np.zeros((1, 8000 * (MAX_AUDIO_SEC + 5)), np.float32), 8000))
    assert len(waveform) == MAX_AUDIO_SEC * rate


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", np.zeros((4, 32, 32, 3), np.uint8), 12)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    for data in (b"", b"noise", playlist, (tmp_path / "mute.mp4").read_bytes()):
        with pytest.raises(DataError, match="expected WAV"):
            decode_sound(data)


@pytest.mark.parametrize("seconds", [0.5, 4.0], ids=["short sound", "long sound"])
def test_answer_is_a_video_with_sound_of_its_own_length(tmp_path: Path, seconds: float) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "a.mp4").write_bytes(encode_answer(frames, Fraction(6), tone(seconds, 16000), 16000))
    clip = decode_clip(tmp_path / "a.mp4")
    assert clip.frames.shape == (12, 32, 32, 3)
    assert clip.fps == 6
    # AAC works in blocks of 1024 samples; the decoder may add one of lead-in and one of padding.
    assert len(clip.waveform) == pytest.approx(2 * 16000, abs=2048)
    loud = np.abs(clip.waveform[: int(0.4 * 16000)]).max()
    assert 0.3 < loud < 0.7

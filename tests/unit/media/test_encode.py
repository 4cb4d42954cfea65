"""What is written is read back: pictures in order, sound at its time, the same bytes each time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.config.tree import SynthConfig
from soundstage.errors import DataError
from soundstage.media.decode import decode_clip
from soundstage.media.encode import write_animation, write_video
from soundstage.synth.scene import CATALOGUE, draw_scene

from .makers import pulse_times


def counting(count: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Flat grey pictures whose level tells their number."""
    levels = np.linspace(30, 220, count).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def pulse(at_sec: float, duration_sec: float, rate: int) -> NDArray[np.float32]:
    wave = np.zeros(round(duration_sec * rate), np.float32)
    half = rate // 2000
    centre = round(at_sec * rate)
    wave[centre - half : centre + half + 1] = 0.9 * np.hanning(2 * half + 1)
    return wave


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(6)])
def test_pictures_and_sound_come_back_at_their_times(tmp_path: Path, rate: int, fps: Fraction) -> None:
    frames = counting(20)
    duration = float(20 / fps)
    at = 0.6 * duration
    write_video(tmp_path / "clip.mp4", frames, fps, pulse(at, duration, rate), rate)
    clip = decode_clip(tmp_path / "clip.mp4")
    assert (clip.fps, clip.sample_rate) == (fps, rate)
    np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), frames.mean(axis=(1, 2, 3)), atol=3)
    # The AAC encoder's priming is edited away: what remains is a smear of about a millisecond.
    assert pulse_times(clip.waveform, rate) == pytest.approx([at], abs=0.002)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_equal_frames_give_equal_bytes_whatever_lies_in_memory(kind: int, tmp_path: Path) -> None:
    scene = draw_scene(np.random.default_rng(kind), CATALOGUE[kind], 2.0)
    frames = scene.frames(96, SynthConfig().fps, 2.0)
    rng = np.random.default_rng(0)
    files = set()
    for attempt in range(12):
        # An encoder that reads memory it has not written gives itself away when that memory changes.
        clutter = [rng.random(int(length)) for length in rng.integers(1, 300_000, 20)]
        path = tmp_path / f"{attempt}.mp4"
        write_video(path, frames, SynthConfig().fps)
        files.add(path.read_bytes())
        del clutter
    assert len(files) == 1


def test_a_file_without_sound_has_one_stream_and_is_no_normalised_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", counting(4), 24)
    with av.open(str(tmp_path / "mute.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    with pytest.raises(DataError, match=r"mute\.mp4: a normalised clip has one video and one audio stream"):
        decode_clip(tmp_path / "mute.mp4")


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (2, 31, 32, 3), (2, 32, 31, 3), (2, 32, 32), (2, 32, 32, 4)])
def test_unusable_pictures_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        write_video(tmp_path / "clip.mp4", np.zeros(shape, np.uint8), 24)
    with pytest.raises(ValueError, match="waveform must be"):
        write_video(tmp_path / "clip.mp4", counting(2), 24, np.zeros((2, 100), np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rate", "written"), [(16000, 16000), (6000, 48000), (192000, 48000)])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_an_animation_has_sound_of_its_own_length_at_any_rate(
    tmp_path: Path, rate: int, written: int, seconds: float
) -> None:
    frames = np.zeros((12, 32, 32, 3), np.uint8)
    times = np.arange(round(seconds * rate)) / rate
    write_animation(tmp_path / "a.mp4", frames, 6, (0.5 * np.sin(2 * np.pi * 500 * times)).astype(np.float32), rate)
    clip = decode_clip(tmp_path / "a.mp4")
    assert clip.sample_rate == written
    # AAC ends on a whole block of 1024 samples.
    assert len(clip.waveform) == pytest.approx(2 * written, abs=1024)
    heard = np.abs(clip.waveform) > 0.2
    assert heard[: round(0.45 * written)].mean() > 0.5
    assert (heard[round(0.6 * written) :].mean() > 0.5) == (seconds > 2)

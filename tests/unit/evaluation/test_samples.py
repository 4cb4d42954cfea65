"""Videos and strips of test clips, as people will see them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soundstage.config.tree import WindowConfig
from soundstage.evaluation import protocol
from soundstage.evaluation.samples import enlarged, strip, write_samples
from soundstage.media.decode import decode_clip

WINDOW = WindowConfig(num_frames=4, fps=4, size=16, audio_margin_sec=0.25)
RATE = 16000


def test_enlarged_pixels_stay_what_they_are() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    large = enlarged(frames)
    assert large.shape == (2, 128, 128, 3)
    assert np.array_equal(large[:, 4::8, 4::8], frames)
    assert np.array_equal(enlarged(large, 64), large)


def test_a_strip_shows_time_to_the_right_and_videos_below() -> None:
    first = np.zeros((3, 32, 32, 3), np.uint8)
    first[1] = 100
    second = np.full((3, 32, 32, 3), 200, np.uint8)
    picture = strip([first, second])
    assert picture.shape == (64 + 2 + 64, 3 * 64, 3)
    assert picture[:64, 64:128].min() == picture[:64, 64:128].max() == 100
    assert picture[:64, :64].max() == 0
    assert picture[66:].min() == 200


def test_samples_carry_the_sound_they_were_made_with(tmp_path: Path) -> None:
    def click(at_sec: float) -> np.ndarray:
        sound = np.zeros(round(1.5 * RATE), np.float32)
        sound[round((at_sec + WINDOW.audio_margin_sec) * RATE) :][:40] = 0.9
        return sound

    frames = np.full((4, 16, 16, 3), 120, np.uint8)
    window = protocol.TestWindow("0123456789abcdef", "lamp", "a lamp", frames, click(0.5), click(0.75))
    videos = {"true": frames[None], "late": frames[None], "no_audio": frames[None]}
    sounds = {"true": click(0.5)[None], "late": click(0.75)[None], "no_audio": None}
    scores = [{"true": 0.9, "late": 0.1, "no_audio": None}]
    write_samples(tmp_path, [window], videos, sounds, scores, WINDOW, RATE)

    (entry,) = json.loads((tmp_path / "index.json").read_text())
    assert (entry["clip_id"], entry["scores"]) == ("0123456789abcdef", scores[0])
    assert list(entry["videos"]) == ["late", "no_audio", "true", "truth"]
    for condition, at_sec in {"true": 0.5, "late": 0.75, "truth": 0.5}.items():
        clip = decode_clip(tmp_path / entry["videos"][condition])
        assert clip.frames.shape == (4, 128, 128, 3)
        assert clip.fps == 4
        assert int(np.abs(clip.waveform).argmax()) / RATE == pytest.approx(at_sec, abs=0.005)
    with pytest.raises(Exception, match="one video and one audio stream"):
        decode_clip(tmp_path / entry["videos"]["no_audio"])
    with Image.open(tmp_path / entry["strip"]) as picture:
        assert picture.size == (4 * 64, 4 * 64 + 3 * 2)

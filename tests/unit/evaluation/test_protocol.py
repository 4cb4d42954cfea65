"""What each condition hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.config import load_config, stage_slice
from soundstage.config.slices import EvaluateSlice
from soundstage.evaluation import protocol
from soundstage.evaluation.protocol import ARMS, Arm, heard, load_windows
from soundstage.media.encode import write_video
from soundstage.stages import Workspace

FPS, RATE, FRAMES = 24, 16000, 72


def arm(name: str) -> Arm:
    (found,) = [arm for arm in ARMS if arm.name == name]
    return found


def window(number: int) -> protocol.TestWindow:
    sound = np.full(10, number + 1, np.float32)
    return protocol.TestWindow(f"clip{number}", "lamp", "a lamp", np.zeros((2, 4, 4, 3), np.uint8), sound, -sound)


@pytest.mark.parametrize("count", range(2, 12))
def test_swapped_is_a_derangement(count: int) -> None:
    windows = [window(n) for n in range(count)]
    own, swapped = heard(arm("true"), windows), heard(arm("swapped"), windows)
    assert own is not None
    assert swapped is not None
    assert (own != swapped).all()
    assert sorted(swapped[:, 0]) == sorted(own[:, 0])


def test_silence_is_silent_and_the_backbone_hears_nothing() -> None:
    windows = [window(n) for n in range(3)]
    silent = heard(arm("silent"), windows)
    assert silent is not None
    assert silent.shape == (3, 10)
    assert not silent.any()
    assert heard(arm("no_audio"), windows) is None
    assert np.array_equal(heard(arm("late"), windows), -np.asarray(heard(arm("true"), windows)))
    assert np.array_equal(heard(arm("stage_one"), windows), heard(arm("true"), windows))


def test_the_arms_of_the_final_model_hear_through_stage_two() -> None:
    adapters = {arm.name: arm.adapter for arm in ARMS}
    assert {adapters[name] for name in ("true", "swapped", "late", "silent")} == {"finetune"}
    assert (adapters["stage_one"], adapters["no_audio"]) == ("pretrain", "none")


def config(*overrides: str) -> EvaluateSlice:
    found = stage_slice("evaluate", load_config("micro", overrides=overrides))
    assert isinstance(found, EvaluateSlice)
    return found


def write_clip(workspace: Workspace, click_sec: float) -> dict[str, Any]:
    frames = np.broadcast_to((50 + 2 * np.arange(FRAMES, dtype=np.uint8))[:, None, None, None], (FRAMES, 32, 48, 3))
    sound = np.zeros(FRAMES * RATE // FPS, np.float32)
    sound[round(click_sec * RATE) :][:40] = 0.9
    write_video(workspace.resolve("media/clip.mp4"), frames.copy(), FPS, sound, RATE)
    about = {"clip_id": "c", "label": "lamp", "caption": "a lamp", "media_uri": "media/clip.mp4"}
    return about | {"num_frames": FRAMES, "fps_num": FPS, "fps_den": 1}


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
@pytest.mark.parametrize("late_frames", [1, 2])
def test_late_is_late_by_whole_frames_and_corrections_are_kept(tmp_path: Path, shift: float, late_frames: int) -> None:
    workspace = Workspace.open(tmp_path)
    slice_ = config(f"evaluate.late_frames={late_frames}")
    clip = write_clip(workspace, click_sec=1.5)
    (loaded,) = load_windows(slice_, workspace, [clip], {"c": shift})

    rate, margin = slice_.model.audio.sample_rate, slice_.window.audio_margin_sec
    # The middle window of what shifted sound covers: 3 s of clip, 1 s of window.
    start = (max(0.0, shift) + min(3.0, 3.0 + shift) - 1.0) / 2
    click = int(np.abs(loaded.sound).argmax()) / rate - margin
    assert click == pytest.approx(1.5 + shift - start, abs=0.004)
    late = int(np.abs(loaded.late_sound).argmax()) - int(np.abs(loaded.sound).argmax())
    assert late / rate == pytest.approx(late_frames / slice_.window.fps, abs=1.5 / rate)
    levels = 50 + 2 * np.round((start + np.arange(6) / 6) * FPS)
    np.testing.assert_allclose(loaded.frames.mean(axis=(1, 2, 3)), levels, atol=3)

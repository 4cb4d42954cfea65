"""Windows lie inside picture and sound, on the frame grid, and depend on seed and clip alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.config.tree import EncodeConfig, WindowConfig
from soundstage.data.windows import plan_windows, sample_key, window_frames, window_sound
from soundstage.media.decode import DecodedClip

WINDOW = WindowConfig(num_frames=6, fps=6, size=16, audio_margin_sec=0.3)


def clip_row(num_frames: int = 72, fps: int = 24, clip_id: str = "c0") -> dict[str, Any]:
    return {"clip_id": clip_id, "media_sha256": "m", "num_frames": num_frames, "fps_num": fps, "fps_den": 1}


@pytest.mark.parametrize("shift", [0.0, 0.613, -0.777, 1.999])
@pytest.mark.parametrize("fps", [24, 25, 30])
def test_windows_lie_inside_picture_and_sound_on_the_frame_grid(shift: float, fps: int) -> None:
    encode = EncodeConfig(windows_per_clip=40)
    duration = 4.0
    starts = []
    for index in range(5):
        row = clip_row(round(duration * fps), fps, f"clip{index}")
        for window in plan_windows(row, shift, encode, WINDOW):
            start = window.start_us / 1e6
            starts.append(start)
            assert start * fps == pytest.approx(round(start * fps), abs=1e-4)
            # Sound moved later by `shift` reaches from shift to duration + shift.
            assert start >= max(0.0, shift) - 1e-6
            assert start + 1.0 <= min(duration, duration + shift) + 1e-6
    span = min(duration, duration + shift) - max(0.0, shift) - 1.0
    assert max(starts) - min(starts) >= 0.9 * (span - 2 / fps)


def test_a_clip_of_exactly_one_window_has_its_start_at_zero() -> None:
    starts = {window.start_us for window in plan_windows(clip_row(24), 0.0, EncodeConfig(), WINDOW)}
    assert starts == {0}


def test_windows_depend_on_seed_and_clip_alone() -> None:
    encode = EncodeConfig(windows_per_clip=4)
    plan = list(plan_windows(clip_row(), 0.0, encode, WINDOW))
    assert plan == list(plan_windows(clip_row(), 0.0, encode, WINDOW))
    assert [window.flip for window in plan] == [False, True, False, True]
    others = [
        list(plan_windows(clip_row(clip_id="c1"), 0.0, encode, WINDOW)),
        list(plan_windows(clip_row(), 0.0, encode.model_copy(update={"seed": 4}), WINDOW)),
    ]
    assert all([w.start_us for w in plan] != [w.start_us for w in other] for other in others)
    longer = list(plan_windows(clip_row(), 0.0, encode.model_copy(update={"windows_per_clip": 6}), WINDOW))
    assert longer[:4] == plan
    unflipped = plan_windows(clip_row(), 0.0, encode.model_copy(update={"flip": False}), WINDOW)
    assert not any(window.flip for window in unflipped)


def test_whatever_decides_a_sample_is_in_its_key() -> None:
    clip = clip_row()
    keys = {
        sample_key(clip, 0.0, 5, False),
        sample_key(clip | {"clip_id": "c1"}, 0.0, 5, False),
        sample_key(clip | {"media_sha256": "n"}, 0.0, 5, False),
        sample_key(clip, 0.1, 5, False),
        sample_key(clip, 0.0, 6, False),
        sample_key(clip, 0.0, 5, True),
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}


def counting_clip(count: int = 72, fps: int = 24, rate: int = 16000, click_sec: float = 1.5) -> DecodedClip:
    """Every frame flat in its own number; one click."""
    frames = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 20, 30, 3)).copy()
    sound: NDArray[np.float32] = np.zeros(round(count / fps * rate), np.float32)
    sound[round(click_sec * rate)] = 1.0
    return DecodedClip(frames, Fraction(fps), sound, rate)


@pytest.mark.parametrize(("fps", "start", "expected"), [(24, 0.5, 12), (30, 1.0, 30)])
def test_frames_are_those_at_the_windows_instants(fps: int, start: float, expected: int) -> None:
    frames = window_frames(counting_clip(3 * fps, fps), start, WINDOW)
    assert frames.shape == (6, 16, 16, 3)
    step = fps // 6
    assert frames[:, 0, 0, 0].tolist() == [expected + step * index for index in range(6)]


@pytest.mark.parametrize("shift", [0.0, 0.25, -0.25])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_click_at_t_is_heard_at_t_plus_shift(shift: float, rate: int) -> None:
    start = 1.0
    sound = window_sound(counting_clip(), start, shift, WINDOW, rate)
    assert len(sound) == round((1.0 + 2 * 0.3) * rate)
    heard_at = int(np.abs(sound).argmax()) / rate - 0.3 + start
    assert heard_at == pytest.approx(1.5 + shift, abs=1.01 / rate)

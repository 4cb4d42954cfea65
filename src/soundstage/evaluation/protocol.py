"""The protocol: which clips, which windows, and the conditions under which each is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..config.slices import EvaluateSlice
from ..data.windows import start_range, window_frames, window_sound
from ..media.decode import decode_clip
from ..stages import Workspace

Condition = Literal["true", "swapped", "late", "silent", "no_audio", "stage_one"]


@dataclass(frozen=True)
class TestWindow:
    """One test clip's window."""

    clip_id: str
    label: str
    caption: str
    frames: NDArray[np.uint8]
    """(T, size, size, 3): the truth"""
    sound: NDArray[np.float32]
    """(samples,) with margins, at the features' rate"""
    late_sound: NDArray[np.float32]
    """the same, some frames late"""


@dataclass(frozen=True)
class Arm:
    """A condition: which adapter generates, and what each window hears (None: the backbone without audio layers)."""

    name: Condition
    adapter: Literal["finetune", "pretrain", "none"]
    what: str


ARMS: tuple[Arm, ...] = (
    Arm("true", "finetune", "the clip's own sound"),
    Arm("swapped", "finetune", "another clip's sound"),
    Arm("late", "finetune", "the clip's own sound, late"),
    Arm("silent", "finetune", "digital silence"),
    Arm("no_audio", "none", "the frozen backbone without audio layers"),
    Arm("stage_one", "pretrain", "the clip's own sound, adapter of stage one"),
)


def load_windows(
    config: EvaluateSlice, workspace: Workspace, clips: Sequence[dict[str, Any]], shifts: dict[str, float]
) -> list[TestWindow]:
    """The middle window of each clip; the sound is corrected by the clip's `audio_shift_sec`."""
    window, rate = config.window, config.model.audio.sample_rate
    late_sec = config.evaluate.late_frames / window.fps
    loaded = []
    for clip in clips:
        shift = shifts[clip["clip_id"]]
        decoded = decode_clip(workspace.resolve(clip["media_uri"]))
        start = sum(start_range(clip, shift, window)) / 2
        loaded.append(
            TestWindow(
                clip["clip_id"],
                clip["label"],
                clip["caption"],
                window_frames(decoded, start, window),
                window_sound(decoded, start, shift, window, rate),
                window_sound(decoded, start, shift + late_sec, window, rate),
            )
        )
    return loaded


def heard(arm: Arm, windows: Sequence[TestWindow]) -> NDArray[np.float32] | None:
    """What each window hears under the condition: (N, samples), or None."""
    if arm.adapter == "none":
        return None
    if arm.name == "late":
        return np.stack([window.late_sound for window in windows])
    sounds = np.stack([window.sound for window in windows])
    if arm.name == "swapped":
        # Half way round the list: no clip hears itself, and a clip rarely hears a neighbour of its own.
        return np.roll(sounds, len(windows) // 2, axis=0)
    return np.zeros_like(sounds) if arm.name == "silent" else sounds

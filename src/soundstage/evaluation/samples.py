"""Videos and strips of a few test clips, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config.tree import WindowConfig
from ..media.encode import write_video
from ..media.frames import enlarged
from ..media.sound import cut_sound
from ..stages.files import write_json
from .protocol import TestWindow

_TRUTH = "truth"
_STRIP_PIXELS = 64


def write_samples(
    folder: Path,
    windows: list[TestWindow],
    videos: Mapping[str, NDArray[np.uint8]],
    sounds: Mapping[str, NDArray[np.float32] | None],
    scores: list[dict[str, float | None]],
    window: WindowConfig,
    sample_rate: int,
) -> None:
    """Write, for each window, one MP4 a condition (with the sound it heard), a strip, and `index.json` over all."""
    index = []
    for position, item in enumerate(windows):
        name = item.clip_id[:12]
        shown = {_TRUTH: item.frames} | {condition: frames[position] for condition, frames in videos.items()}
        for condition, frames in shown.items():
            heard = item.sound if condition == _TRUTH else _at(sounds[condition], position)
            write_sample(folder / name / f"{condition}.mp4", frames, heard, window, sample_rate)
        Image.fromarray(strip(list(shown.values()))).save(folder / name / "strip.png")
        index.append(_entry(item, name, list(shown), scores[position]))
    write_json(folder / "index.json", index)


def _at(sounds: NDArray[np.float32] | None, position: int) -> NDArray[np.float32] | None:
    return None if sounds is None else sounds[position]


def _entry(item: TestWindow, name: str, conditions: list[str], scores: dict[str, float | None]) -> dict[str, Any]:
    return {
        "clip_id": item.clip_id,
        "label": item.label,
        "caption": item.caption,
        "videos": {condition: f"{name}/{condition}.mp4" for condition in conditions},
        "strip": f"{name}/strip.png",
        "scores": scores,
    }


def write_sample(
    path: Path, frames: NDArray[np.uint8], sound: NDArray[np.float32] | None, window: WindowConfig, sample_rate: int
) -> None:
    """Write a generated window large enough to see, with its sound without the margins."""
    audible = None
    if sound is not None:
        audible = cut_sound(sound, sample_rate, window.audio_margin_sec, float(window.duration_sec))
    write_video(path, enlarged(frames), window.fps, audible, sample_rate)


def strip(videos: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Videos (T, H, W, 3) one below the other, frames from left to right, with a dark line between."""
    rows = []
    for frames in videos:
        large = enlarged(frames, _STRIP_PIXELS)
        rows.append(np.concatenate(list(large), axis=1))
        rows.append(np.full((2, rows[-1].shape[1], 3), 24, np.uint8))
    return np.concatenate(rows[:-1])

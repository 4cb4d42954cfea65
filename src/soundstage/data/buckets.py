"""Buckets: the sizes and lengths that windows are encoded at, and which of them a clip goes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..config.tree import EncodeConfig, WindowConfig
from ..errors import ConfigError
from .windows import bucket_name, holds, picture_scale


def bucket_windows(config: EncodeConfig, window: WindowConfig) -> dict[str, WindowConfig]:
    """The windows of all buckets by name: the model's own first, then the configured ones, with its rate and margin.

    Raises:
        ConfigError: two buckets are the same.
    """
    windows = {bucket_name(window): window}
    for bucket in config.buckets:
        other = window.model_copy(update=bucket.model_dump())
        name = bucket_name(other)
        if name in windows:
            raise ConfigError(
                f"encode.buckets: {name} (frames x height x width) is there already, as the model's own window or as "
                "another bucket; leave it out"
            )
        windows[name] = other
    return windows


def best_bucket(clip: Mapping[str, Any], audio_shift_sec: float, use: str, windows: Mapping[str, WindowConfig]) -> str:
    """The one bucket of a clip, whose first is the model's own window.

    Held-out clips go to the model's own window, so that held-out losses and videos compare like with like. Others go,
    among the windows for which their picture and shifted sound last, to the one

    1. whose aspect ratio is nearest, as a ratio: |log(clip's / window's)| is least, so that least is cropped;
    2. that is longest;
    3. that is largest without enlarging the clip, or, where all enlarge it, smallest;
    4. that comes first.

    A clip that lasts for none goes to the model's own window: nothing is dropped here.
    """
    own = next(iter(windows))
    fitting = [name for name, window in windows.items() if holds(clip, audio_shift_sec, window)]
    if use == "validation" or not fitting:
        return own
    aspect = clip["width"] / clip["height"]

    def order(name: str) -> tuple[float, int, bool, float]:
        window = windows[name]
        height, width = window.frame_size
        enlarged = picture_scale(clip, window) < 1
        area = height * width
        # Windows of one aspect ratio must tie, whatever their logarithms' last bits.
        return (
            round(abs(math.log(aspect * height / width)), 9),
            -window.num_frames,
            enlarged,
            area if enlarged else -area,
        )

    return min(fitting, key=order)

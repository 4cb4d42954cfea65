"""Buckets: each clip goes to the window that fits it best, by shape, then length, then size."""

from __future__ import annotations

from typing import Any

import pytest

from soundstage.config.tree import BucketConfig, EncodeConfig, WindowConfig
from soundstage.data.buckets import best_bucket, bucket_windows
from soundstage.errors import ConfigError

OWN = WindowConfig(num_frames=12, fps=6, size=32, audio_margin_sec=0.25)


def windows(*buckets: tuple[int, int, int]) -> dict[str, WindowConfig]:
    """The model's own window 12x32x32 and further ones of (frames, height, width)."""
    configured = tuple(BucketConfig(num_frames=n, size=h, width=w) for n, h, w in buckets)
    return bucket_windows(EncodeConfig(buckets=configured), OWN)


def clip(width: int, height: int, seconds: float = 4.0) -> dict[str, Any]:
    return {"width": width, "height": height, "num_frames": round(seconds * 24), "fps_num": 24, "fps_den": 1}


def test_windows_of_buckets_share_rate_and_margin_and_the_models_own_is_first() -> None:
    found = windows((24, 16, 32), (12, 32, 48))
    assert list(found) == ["12x32x32", "24x16x32", "12x32x48"]
    assert found["12x32x32"] is OWN
    assert found["24x16x32"] == WindowConfig(num_frames=24, fps=6, size=16, width=32, audio_margin_sec=0.25)
    assert bucket_windows(EncodeConfig(), OWN) == {"12x32x32": OWN}


@pytest.mark.parametrize("buckets", [[(12, 32, 32)], [(24, 16, 32), (24, 16, 32)]])
def test_a_bucket_that_is_there_already_is_refused(buckets: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ConfigError, match=r"encode\.buckets: \d+x\d+x32 .* is there already"):
        windows(*buckets)


@pytest.mark.parametrize(
    ("about", "buckets", "wanted"),
    [
        ("no further buckets", [], "12x32x32"),
        ("nearest aspect ratio", [(12, 32, 64), (12, 64, 32)], "12x32x64"),
        ("... before length", [(48, 32, 32), (6, 32, 64)], "6x32x64"),
        ("longest of those that the clip lasts for", [(18, 32, 64), (24, 32, 64), (30, 32, 64)], "24x32x64"),
        ("largest that does not enlarge the clip", [(12, 24, 48), (12, 48, 96), (12, 56, 112)], "12x48x96"),
        ("smallest where all enlarge it", [(12, 112, 224), (12, 56, 112)], "12x56x112"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_the_window_that_fits_a_clip(about: str, buckets: list[tuple[int, int, int]], wanted: str) -> None:
    """For a clip of 96 x 48 pixels and four seconds: 24 frames at 6 a second."""
    found = windows(*buckets)
    assert best_bucket(clip(96, 48), 0.0, "pretrain", found) == wanted, about
    turned = dict([next(iter(found.items())), *reversed(list(found.items())[1:])])
    assert best_bucket(clip(96, 48), 0.0, "pretrain", turned) == wanted, "the order decides between equals alone"


def test_aspect_ratios_are_compared_as_ratios() -> None:
    # 4:3 lies nearer to 1:1 than to 16:9 in difference (0.33, 0.44) and in ratio (1.33, 1.33 exactly: a tie).
    assert best_bucket(clip(64, 48), 0.0, "pretrain", windows((12, 72, 128))) == "12x32x32", "the first of equals"
    assert best_bucket(clip(65, 48), 0.0, "pretrain", windows((12, 72, 128))) == "12x72x128"
    # Twice as high and twice as wide are equally far from square.
    assert best_bucket(clip(48, 48), 0.0, "pretrain", windows((12, 64, 32), (12, 32, 64))) == "12x32x32"


def test_a_shift_of_the_sound_shortens_what_a_clip_holds() -> None:
    found = windows((24, 32, 64), (18, 32, 64))
    assert best_bucket(clip(96, 48), 0.0, "pretrain", found) == "24x32x64"
    for shift in (0.1, -0.1, 1.0):
        assert best_bucket(clip(96, 48), shift, "finetune", found) == "18x32x64"
    assert best_bucket(clip(96, 48), -1.1, "finetune", found) == "12x32x32", "another shape, rather than none"


def test_held_out_clips_and_those_that_last_for_no_window_go_to_the_models_own() -> None:
    found = windows((12, 32, 64))
    assert best_bucket(clip(96, 48), 0.0, "validation", found) == "12x32x32"
    assert best_bucket(clip(96, 48, seconds=1.0), 0.0, "pretrain", found) == "12x32x32"

"""The rules that turn one clip's signals into reasons: selection applies them, the review queue looks ahead at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ..config.tree import SelectConfig

Reason = Literal[
    "judge_split",  # set aside for the judge scorer
    "silent",
    "black",
    "still",
    "cut",
    "too_short_for_window",
    "rejected_by_reviewer",
    "unmeasured",  # sound or picture never changes, so nothing says whether they belong together
    "unsynced",
]
REASONS: tuple[str, ...] = Reason.__args__  # type: ignore[attr-defined]

Row = Mapping[str, Any]


def technical_reasons(signals: Row, config: SelectConfig) -> list[Reason]:
    """What is wrong with the clip's picture or sound, each by itself; empty when nothing is."""
    found: list[Reason] = []
    if signals["loudness_dbfs"] < config.min_loudness_dbfs or signals["silence_share"] > config.max_silence_share:
        found.append("silent")
    if signals["black_share"] > config.max_black_share:
        found.append("black")
    if signals["still_share"] > config.max_still_share or signals["motion_peak"] < config.min_motion_peak:
        found.append("still")
    if signals["cuts"] > config.max_cuts:
        found.append("cut")
    return found


@dataclass(frozen=True)
class Sync:
    """What the measured offset means for a clip."""

    audio_shift_sec: float = 0.0
    """added to audio time so that sound meets motion: minus the measured offset"""
    reason: Reason | None = None


def judge_sync(signals: Row, config: SelectConfig) -> Sync:
    """Keep, correct or drop by correlation and offset.

    Too little correlation is `unsynced`. An offset within the tolerance (wider for late sound, which motion precedes
    by nature) is left. A larger one is corrected when it is confident and well correlated; else, since any sound finds
    some offset at which it correlates a little, it is `unsynced`.
    """
    correlation, offset_sec = signals["av_correlation"], signals["av_offset_sec"]
    if correlation is None or offset_sec is None:
        return Sync(reason="unmeasured")
    if correlation < config.min_sync_correlation:
        return Sync(reason="unsynced")
    if -config.offset_tolerance_sec <= offset_sec <= config.offset_tolerance_sec + config.motion_lead_sec:
        return Sync()
    is_confident = (signals["av_confidence"] or 0.0) >= config.min_offset_confidence
    if is_confident and correlation >= config.min_offset_correlation:
        return Sync(audio_shift_sec=round(-offset_sec, 3))
    return Sync(reason="unsynced")


def holds_window(clip: Row, window_sec: Fraction, audio_shift_sec: float) -> bool:
    """Whether picture and shifted sound overlap for at least one window."""
    needed_us = window_sec * 1_000_000 + abs(round(audio_shift_sec * 1_000_000))
    return bool(clip["duration_us"] >= needed_us)

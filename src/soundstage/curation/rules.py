"""The rules that turn one clip's signals into reasons: selection applies them, the review queue looks ahead at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ..config.tree import SelectConfig

Reason = Literal[
    "judge_split",
    "near_duplicate",
    "silent",
    "black",
    "still",
    "cut",
    "panned",
    "speech",
    "blurred",
    "letterboxed",
    "too_short_for_window",
    "rejected_by_reviewer",
    "unmeasured",
    "unsynced",
    "not_synchronisable",
    "mismatched",
    "class_full",
]
REASONS: tuple[str, ...] = Reason.__args__  # type: ignore[attr-defined]

MEANINGS: dict[str, str] = {
    "judge_split": "set aside for the judge of synchrony",
    "near_duplicate": "another clip of its near-duplicate cluster stands for it",
    "silent": "sound under the level or silence over the share allowed",
    "black": "too many black frames",
    "still": "too many frozen frames, or too little motion anywhere",
    "cut": "a cut inside the clip",
    "panned": "the whole picture moves in too many frames",
    "speech": "speech in too much of the sound",
    "blurred": "the picture is less sharp than allowed",
    "letterboxed": "dark bars cover too much of the picture",
    "too_short_for_window": "picture and shifted sound share less than one window",
    "rejected_by_reviewer": "a reviewer said drop",
    "unmeasured": "sound or picture never changes, so nothing says whether they belong together",
    "unsynced": "sound and motion agree at no trustworthy offset",
    "not_synchronisable": "picture and sound fit at several offsets, so nobody can tell which is right",
    "mismatched": "picture, sound and caption are about different things",
    "class_full": "good enough, but its class has enough better clips",
}

Row = Mapping[str, Any]

# Signals whose threshold is not called `min_` or `max_` and their own name.
_FIELDS = {"av_correlation": "min_sync_correlation"}


def threshold_field(signal: str) -> str | None:
    """The field of `SelectConfig` that holds the lowest (`min_...`) or highest (`max_...`) value of a signal allowed.

    None where selection has no such threshold.
    """
    names = [_FIELDS.get(signal, ""), f"min_{signal}", f"max_{signal}"]
    return next((name for name in names if name in SelectConfig.model_fields), None)


def technical_reasons(signals: Row, config: SelectConfig) -> list[Reason]:
    """What is wrong with the clip's picture or sound, each by itself; empty when nothing is.

    A signal that is null was not measured and never drops. Where both cut detectors ran, either one's cut counts.
    """
    found: list[Reason] = []
    if signals["loudness_dbfs"] < config.min_loudness_dbfs or signals["silence_share"] > config.max_silence_share:
        found.append("silent")
    if signals["black_share"] > config.max_black_share:
        found.append("black")
    if signals["still_share"] > config.max_still_share or signals["motion_peak"] < config.min_motion_peak:
        found.append("still")
    if signals["cuts"] > config.max_cuts or _above(signals["cuts_learned"], config.max_cuts):
        found.append("cut")
    if _above(signals["pan_share"], config.max_pan_share):
        found.append("panned")
    if _above(signals["speech_share"], config.max_speech_share):
        found.append("speech")
    if _below(signals["sharpness"], config.min_sharpness):
        found.append("blurred")
    if _above(signals["letterbox_share"], config.max_letterbox_share):
        found.append("letterboxed")
    return found


def semantic_reasons(signals: Row, config: SelectConfig) -> list[Reason]:
    """`mismatched` when a cosine that was measured is under its minimum."""
    names = ("image_audio_cosine", "image_text_cosine", "audio_text_cosine")
    return ["mismatched"] if any(_below(signals[name], getattr(config, f"min_{name}")) for name in names) else []


def final_reasons(clip: Row, signals: Row, config: SelectConfig) -> list[Reason]:
    """Reasons that hold whatever a reviewer says: another clip stands for it, or picture or sound are unfit."""
    duplicate: list[Reason] = ["near_duplicate"] if clip["duplicate_of"] else []
    return duplicate + technical_reasons(signals, config)


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


@dataclass(frozen=True)
class Sync:
    """What the measured offset means for a clip."""

    audio_shift_sec: float = 0.0
    """added to audio time so that sound meets motion: minus the measured offset"""
    reason: Reason | None = None


def judge_sync(signals: Row, config: SelectConfig) -> Sync:
    """Keep, correct or drop by what the curator says; where it says nothing, by correlation.

    With a curator: a clip whose sound belongs to the picture at one certain offset beyond the tolerance is corrected,
    one whose sound belongs to it as it is placed is left, any other is `unsynced`. A clip whose offset nobody can tell
    (periodic events) is left when it fits as placed, unless `min_synchronisability` asks for more.
    """
    if signals["sync_score"] is None:
        return _judge_correlation(signals, config)
    if signals["synchronisability"] < config.min_synchronisability:
        return Sync(reason="not_synchronisable")
    fits = signals["sync_score"] >= config.min_sync_score
    offset_sec = signals["sync_offset_sec"]
    belongs = signals["sync_match"] >= config.min_sync_match
    is_certain = belongs and signals["sync_confidence"] >= config.min_sync_confidence
    if is_certain and (abs(offset_sec) > config.offset_tolerance_sec or not fits):
        return Sync(audio_shift_sec=round(-offset_sec, 3))
    return Sync() if fits else Sync(reason="unsynced")


def _judge_correlation(signals: Row, config: SelectConfig) -> Sync:
    """Without a curator, by correlation and offset of onset strength and motion.

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

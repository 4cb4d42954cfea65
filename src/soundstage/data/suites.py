"""What the records promise, in words and limits: one suite a record. `contracts` judges them; nothing here runs.

Rules are about single rows, or about the columns, so that any part of a record can be judged by itself. What a suite
says of all rows together (`min_rows`, `unique`, `same`) is counted by `facts`. Limits that a user may want to move come
from `ContractsConfig`; those that follow from what a column means, a share lying in 0..1, stand here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..config.tree import ContractsConfig
from .records import (
    CLIPS,
    REJECT_REASONS,
    REJECTS,
    REVIEWS,
    SELECTION,
    SHARD_SAMPLES,
    SIGNALS,
    SPLITS,
    USES,
    VERDICTS,
)

# Grey levels differ from their four neighbours by at most 4 x 255 either way.
_MAX_SHARPNESS = 1020.0**2
_HEX64 = r"^[0-9a-f]{64}$"
TRAINING_USES = ("pretrain", "finetune", "validation")
"""Uses that are encoded to shards; evaluation reads its clips from their media."""


@dataclass(frozen=True)
class Rule:
    """One expectation about rows, or about the columns: never about how rows compare."""

    expectation: str
    """class name in great_expectations.expectations"""
    description: str
    """what is promised, as people read it in messages and Data Docs"""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unique:
    """No two rows have the same values of `columns`."""

    columns: tuple[str, ...]
    description: str


_ONE_ROW_A_CLIP = Unique(("clip_id",), "clip_id is unique")


@dataclass(frozen=True)
class Suite:
    """The rules of one record."""

    name: str
    row_id: str
    """the column by which an offending row is named"""
    rules: Sequence[Rule]
    min_rows: int = 1
    unique: Unique | None = None
    same: str = ""
    """a column that has one and the same value in all rows"""


def clips_suite(config: ContractsConfig) -> Suite:
    """Rules of `clips.parquet` after the split."""
    longest = config.max_duration_sec
    rules = [
        *_shape(CLIPS),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        *(_matches(name, _HEX64, "64 hexadecimal digits") for name in ("source_sha256", "media_sha256")),
        _between("start_us", 0, _us(longest), f"a time in the source, in microseconds, at most {longest:g} s"),
        _between("duration_us", 1, _us(longest), f"a positive length in microseconds, at most {longest:g} s"),
        _between("fps_num", 1, 1_000_000, "positive"),
        _between("fps_den", 1, 1_000_000, "positive"),
        _between("num_frames", 1, None, "at least one frame"),
        *(_within(name, config.min_frame_px, config.max_frame_px, " pixels") for name in ("width", "height")),
        _within("sample_rate", config.min_sample_rate, config.max_sample_rate, " Hz"),
        _within("channels", 1, config.max_channels),
        *(_filled(name) for name in ("source_uri", "video_codec", "audio_codec", "caption", "licence", "group")),
        _one_of("caption_from", ("source", "label_template")),
        _matches("media_uri", r"^media/(?!.*\.\./)[^\s]+\.mp4$", "a file under media/ of the workspace"),
        _one_of("split", SPLITS),
    ]
    return Suite("clips", "clip_id", rules, unique=_ONE_ROW_A_CLIP)


def rejects_suite(config: ContractsConfig) -> Suite:
    """Rules of `rejects.parquet`."""
    longest = config.max_duration_sec
    rules = [
        *_shape(REJECTS),
        _filled("source_uri"),
        _between("start_us", 0, _us(longest), f"a time in the source, in microseconds, at most {longest:g} s"),
        _between(
            "duration_us", 0, _us(longest), f"a length in microseconds, 0 for the whole source, at most {longest:g} s"
        ),
        _one_of("reason", REJECT_REASONS),
        _filled("detail"),
    ]
    once = Unique(("source_uri", "start_us", "duration_us"), "a span of a source is rejected once")
    return Suite("rejects", "source_uri", rules, min_rows=0, unique=once)


def signals_suite(config: ContractsConfig) -> Suite:
    """Rules of `signals.parquet`."""
    shares = (
        *("black_share", "still_share", "motion", "motion_peak", "pan_share", "letterbox_share"),
        *("silence_share", "clipping_share", "speech_share", "av_align", "sync_confidence", "synchronisability"),
    )
    cosines = ("av_correlation", "image_audio_cosine", "image_text_cosine", "audio_text_cosine")
    # Nullable in the record, so that older ones can be read, but measured of every clip.
    measured = ("pan_share", "sharpness", "letterbox_share")
    rules = [
        *_shape(SIGNALS),
        *(Rule("ExpectColumnValuesToNotBeNull", f"{name} is never null", {"column": name}) for name in measured),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _filled("signal_version"),
        *(_between(name, 0.0, 1.0, "between 0 and 1") for name in shares),
        _between("sharpness", 0.0, _MAX_SHARPNESS, "a variance of the Laplacian of grey levels"),
        _between("optical_flow", 0.0, 1e3, "0 to 1000 frame widths a second"),
        *(_between(name, 0, None, "not negative") for name in ("cuts", "cuts_learned")),
        _between("loudness_dbfs", -120.0, 20.0, "-120 to 20 dBFS"),
        _within("onsets_per_sec", 0.0, config.max_onsets_per_sec, " a second"),
        *(_either_way(name, config.max_abs_offset_sec) for name in ("av_offset_sec", "sync_offset_sec")),
        *(_between(name, -1.0001, 1.0001, "between -1 and 1") for name in cosines),
        *(_between(name, -1e6, 1e6, "finite log odds") for name in ("sync_score", "sync_match")),
        _between("av_confidence", 0.0, 1e6, "not negative and finite"),
    ]
    return Suite("signals", "clip_id", rules, unique=_ONE_ROW_A_CLIP, same="signal_version")


def reviews_suite(config: ContractsConfig) -> Suite:
    """Rules of `reviews.parquet`, the snapshot of verdicts."""
    rules = [
        *_shape(REVIEWS),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _one_of("verdict", VERDICTS),
        _filled("reviewer"),
        _within("seconds_spent", 0.0, config.max_review_sec, " s"),
        _matches("at", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)$", "ISO 8601 in UTC"),
        _either_way("audio_shift_sec", config.max_abs_shift_sec),
    ]
    return Suite("reviews", "clip_id", rules, min_rows=0)


def selection_suite(config: ContractsConfig) -> Suite:
    """Rules of `selection.parquet`."""
    rules = [
        *_shape(SELECTION),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _one_of("use", USES),
        _matches("reasons", r"^(?:[a-z_]+(?:,[a-z_]+)*)?$", "reasons joined by commas, or empty"),
        _between("weight", 1e-6, 1e6, "positive and finite"),
        _either_way("audio_shift_sec", config.max_abs_shift_sec),
    ]
    return Suite("selection", "clip_id", rules, unique=_ONE_ROW_A_CLIP)


def shards_suite(config: ContractsConfig) -> Suite:
    """Rules of the shards' `samples.parquet`."""
    longest = config.max_duration_sec
    rules = [
        *_shape(SHARD_SAMPLES),
        _matches("key", r"^[0-9a-f]{16,64}$", "16 to 64 hexadecimal digits"),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _one_of("use", TRAINING_USES),
        _filled("caption"),
        _between("weight", 1e-6, 1e6, "positive and finite"),
        _between("window_start_us", 0, _us(longest), f"a time in the clip, in microseconds, at most {longest:g} s"),
        _matches("shard", r"^shards/[^/]+\.tar$", "a tar file under shards/"),
        _between("offset", 0, None, "not negative"),
        _between("size", 512, None, "at least one tar block of 512 bytes"),
        _matches("bucket", r"^[1-9]\d*x[1-9]\d*x[1-9]\d*$", "frames, height and width joined by x"),
        _matches("sha256", _HEX64, "64 hexadecimal digits"),
    ]
    return Suite("shards", "clip_id", rules, unique=Unique(("key",), "key is unique"))


def _shape(schema: pa.Schema) -> list[Rule]:
    filled = (field.name for field in schema if not field.nullable)
    return [
        Rule(
            "ExpectTableColumnsToMatchOrderedList", "the columns are those of the schema", {"column_list": schema.names}
        ),
        *(Rule("ExpectColumnValuesToNotBeNull", f"{name} is never null", {"column": name}) for name in filled),
    ]


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _within(column: str, low: float, high: float, unit: str = "") -> Rule:
    return _between(column, low, high, f"{low:.12g} to {high:.12g}{unit}")


def _either_way(column: str, limit_sec: float) -> Rule:
    return _between(column, -limit_sec, limit_sec, f"at most {limit_sec:g} s either way")


def _between(column: str, low: float, high: float | None, words: str) -> Rule:
    limits = {"column": column, "min_value": low, "max_value": high}
    return Rule("ExpectColumnValuesToBeBetween", f"{column} is {words}", limits)


def _one_of(column: str, values: Iterable[str]) -> Rule:
    allowed = list(values)
    return Rule(
        "ExpectColumnValuesToBeInSet",
        f"{column} is one of {', '.join(allowed)}",
        {"column": column, "value_set": allowed},
    )


def _matches(column: str, regex: str, words: str) -> Rule:
    return Rule("ExpectColumnValuesToMatchRegex", f"{column} is {words}", {"column": column, "regex": regex})


def _filled(column: str) -> Rule:
    return Rule("ExpectColumnValuesToMatchRegex", f"{column} is not empty", {"column": column, "regex": r"\S"})

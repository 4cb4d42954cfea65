"""What the records promise, in words and limits: one suite a record. `contracts` judges them; nothing here runs."""

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

_HEX64 = r"^[0-9a-f]{64}$"
_LONGEST_US = 24 * 3600 * 1_000_000
TRAINING_USES = ("pretrain", "finetune", "validation")
"""Uses that are encoded to shards; evaluation reads its clips from their media."""


@dataclass(frozen=True)
class Rule:
    """One expectation about a table."""

    expectation: str
    """class name in great_expectations.expectations"""
    description: str
    """what is promised, as people read it in messages and Data Docs"""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """The rules of one record; `row_id` is the column by which an offending row is named."""

    name: str
    row_id: str
    rules: Sequence[Rule]


def clips_suite() -> Suite:
    """Rules of `clips.parquet` after the split."""
    rules = [
        *_shape(CLIPS),
        *_identities("clip_id"),
        *(_matches(name, _HEX64, "64 hexadecimal digits") for name in ("source_sha256", "media_sha256")),
        _between("start_us", 0, _LONGEST_US, "a time in the source, in microseconds"),
        _between("duration_us", 1, _LONGEST_US, "a positive length in microseconds"),
        _between("fps_num", 1, 1_000_000, "positive"),
        _between("fps_den", 1, 1_000_000, "positive"),
        _between("num_frames", 1, None, "at least one frame"),
        *(_between(name, 16, 16384, "16 to 16384 pixels") for name in ("width", "height")),
        _between("sample_rate", 8000, 384_000, "8000 to 384000 Hz"),
        _between("channels", 1, 64, "1 to 64"),
        *(_filled(name) for name in ("source_uri", "video_codec", "audio_codec", "caption", "licence", "group")),
        _one_of("caption_from", ("source", "label_template")),
        _matches("media_uri", r"^media/(?!.*\.\./)[^\s]+\.mp4$", "a file under media/ of the workspace"),
        _one_of("split", SPLITS),
    ]
    return Suite("clips", "clip_id", rules)


def rejects_suite() -> Suite:
    """Rules of `rejects.parquet`."""
    rules = [
        *_shape(REJECTS, min_rows=0),
        _filled("source_uri"),
        _between("start_us", 0, _LONGEST_US, "a time in the source, in microseconds"),
        _between("duration_us", 0, _LONGEST_US, "a length in microseconds, 0 for the whole source"),
        _one_of("reason", REJECT_REASONS),
        _filled("detail"),
        Rule(
            "ExpectCompoundColumnsToBeUnique",
            "a span of a source is rejected once",
            {"column_list": ["source_uri", "start_us", "duration_us"]},
        ),
    ]
    return Suite("rejects", "source_uri", rules)


def signals_suite() -> Suite:
    """Rules of `signals.parquet`."""
    shares = ("black_share", "still_share", "motion", "motion_peak", "silence_share", "clipping_share", "av_align")
    rules = [
        *_shape(SIGNALS),
        *_identities("clip_id"),
        _filled("signal_version"),
        Rule(
            "ExpectColumnUniqueValueCountToBeBetween",
            "signal_version is one and the same: signals of two versions are not compared",
            {"column": "signal_version", "min_value": 1, "max_value": 1},
        ),
        *(_between(name, 0.0, 1.0, "between 0 and 1") for name in shares),
        _between("cuts", 0, None, "not negative"),
        _between("loudness_dbfs", -120.0, 20.0, "-120 to 20 dBFS"),
        _between("onsets_per_sec", 0.0, 100.0, "0 to 100 a second"),
        _between("av_offset_sec", -60.0, 60.0, "within a minute"),
        _between("av_correlation", -1.0001, 1.0001, "between -1 and 1"),
        _between("av_confidence", 0.0, 1e6, "not negative and finite"),
    ]
    return Suite("signals", "clip_id", rules)


def reviews_suite() -> Suite:
    """Rules of `reviews.parquet`, the snapshot of verdicts."""
    rules = [
        *_shape(REVIEWS, min_rows=0),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _one_of("verdict", VERDICTS),
        _filled("reviewer"),
        _between("seconds_spent", 0.0, 86_400.0, "0 to 86400 s"),
        _matches("at", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)$", "ISO 8601 in UTC"),
    ]
    return Suite("reviews", "clip_id", rules)


def selection_suite(config: ContractsConfig) -> Suite:
    """Rules of `selection.parquet`."""
    limit = config.max_abs_shift_sec
    rules = [
        *_shape(SELECTION),
        *_identities("clip_id"),
        _one_of("use", USES),
        _matches("reasons", r"^(?:[a-z_]+(?:,[a-z_]+)*)?$", "reasons joined by commas, or empty"),
        _between("weight", 1e-6, 1e6, "positive and finite"),
        _between("audio_shift_sec", -limit, limit, f"at most {limit:g} s either way"),
    ]
    return Suite("selection", "clip_id", rules)


def shards_suite() -> Suite:
    """Rules of the shards' `samples.parquet`."""
    rules = [
        *_shape(SHARD_SAMPLES),
        *_identities("key", row_format=r"^[0-9a-f]{16,64}$", words="16 to 64 hexadecimal digits"),
        _matches("clip_id", _HEX64, "64 hexadecimal digits"),
        _one_of("use", TRAINING_USES),
        _filled("caption"),
        _between("weight", 1e-6, 1e6, "positive and finite"),
        _between("window_start_us", 0, _LONGEST_US, "a time in the clip, in microseconds"),
        _matches("shard", r"^shards/[^/]+\.tar$", "a tar file under shards/"),
        _between("offset", 0, None, "not negative"),
        _between("size", 512, None, "at least one tar block of 512 bytes"),
    ]
    return Suite("shards", "clip_id", rules)


def _shape(schema: pa.Schema, min_rows: int = 1) -> list[Rule]:
    names = schema.names
    filled = (field.name for field in schema if not field.nullable)
    return [
        Rule("ExpectTableColumnsToMatchOrderedList", "the columns are those of the schema", {"column_list": names}),
        Rule("ExpectTableRowCountToBeBetween", f"there are at least {min_rows} rows", {"min_value": min_rows}),
        *(Rule("ExpectColumnValuesToNotBeNull", f"{name} is never null", {"column": name}) for name in filled),
    ]


def _identities(column: str, row_format: str = _HEX64, words: str = "64 hexadecimal digits") -> list[Rule]:
    unique = Rule("ExpectColumnValuesToBeUnique", f"{column} is unique", {"column": column})
    return [_matches(column, row_format, words), unique]


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

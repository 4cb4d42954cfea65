"""The records that cross rooms: their columns, and Parquet files that appear whole with identical bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..stages.files import atomic_path
from .batches import check_columns, iterate_record, open_record

SCHEMA_VERSION = "2"

RejectReason = Literal[
    "not_media",  # no demuxer reads it: empty, text, a directory
    "damaged",  # opens, but decoding fails
    "no_video",
    "no_audio",
    "too_short",
    "too_long",
    "too_large",
    "exact_duplicate",
    "timeout",
    "crashed",  # the decoding process died on it
    "missing",  # a table names it, and it is not there
    "unreachable",  # its store or server does not give it
    "unsafe_name",  # its name leads out of the table's folder, or is an address of a kind that is not read
    "no_caption",  # nothing says what it shows: neither caption nor label
    "bad_span",  # a table wants a part that the source does not have
]
REJECT_REASONS: tuple[str, ...] = RejectReason.__args__  # type: ignore[attr-defined]

Split = Literal["pretrain", "judge", "validation", "test", "open_class_test"]
SPLITS: tuple[str, ...] = Split.__args__  # type: ignore[attr-defined]

Use = Literal["pretrain", "finetune", "validation", "test", "open_class_test", "dropped"]
USES: tuple[str, ...] = Use.__args__  # type: ignore[attr-defined]

Verdict = Literal["keep", "drop", "shift"]
VERDICTS: tuple[str, ...] = Verdict.__args__  # type: ignore[attr-defined]


def _schema(*fields: tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, nullable) for name, kind, nullable in fields],
        metadata={"soundstage_schema_version": SCHEMA_VERSION},
    )


_S, _F, _I, _B = pa.string(), pa.float64(), pa.int64(), pa.bool_()

CLIPS = _schema(
    ("clip_id", _S, False),  # sha256 of source sha256 + span in integer microseconds
    ("source_uri", _S, False),  # relative to the source folder
    ("source_sha256", _S, False),
    ("start_us", _I, False),  # span in the source, microseconds
    ("duration_us", _I, False),
    ("fps_num", _I, False),  # of the normalised clip
    ("fps_den", _I, False),
    ("num_frames", _I, False),
    ("width", _I, False),
    ("height", _I, False),
    ("sample_rate", _I, False),
    ("channels", _I, False),  # of the source
    ("video_codec", _S, False),  # of the source
    ("audio_codec", _S, False),
    ("caption", _S, False),
    ("caption_from", _S, False),  # source | label_template
    ("label", _S, False),
    ("licence", _S, False),
    ("provenance", _S, False),
    ("media_sha256", _S, False),  # of the normalised clip
    ("media_uri", _S, False),  # relative to the workspace
    ("group", _S, False),  # source video and near-duplicate cluster; empty before `split`
    ("split", _S, False),  # empty before `split`
    ("duplicate_of", _S, False),  # clip_id of the clip that stands for its near-duplicate cluster; empty: itself
)

REJECTS = _schema(
    ("source_uri", _S, False),
    ("start_us", _I, False),
    ("duration_us", _I, False),  # 0: the whole source
    ("reason", _S, False),
    ("detail", _S, False),
)

FINGERPRINTS = _schema(
    ("clip_id", _S, False),
    ("version", _S, False),  # of the fingerprint; two versions are never compared
    ("sound", pa.binary(), False),  # little-endian uint32 each 1/25 s; 0: nothing to hear
    ("picture", pa.binary(), False),  # little-endian uint64 each 1/8 s: 64 signs
    ("picture_sure", pa.binary(), False),  # which of these signs are to be trusted
    ("motion", pa.binary(), False),  # uint8 each 1/24 s, sixteenths of the root of the mean grey difference
)

DUPLICATES = _schema(
    ("clip_id", _S, False),
    ("duplicate_of", _S, False),  # clip_id of the kept clip, with which this one was compared
    ("offset_sec", _F, False),  # this clip starts so much after the start of the kept one
    ("overlap_sec", _F, False),  # common span
    ("video_bit_error", _F, False),  # share of sure picture bits that differ
    ("audio_bit_error", _F, True),  # share of sound bits that differ; null: neither has sound
    ("motion_correlation", _F, True),  # null: one of them does not move
)

SIGNALS = _schema(
    ("clip_id", _S, False),
    ("signal_version", _S, False),
    ("black_share", _F, False),  # share of frames with mean luma under 0.04
    ("still_share", _F, False),  # share of frame pairs that are frozen
    ("motion", _F, False),  # mean absolute difference of neighbouring grey frames, 0..1
    ("motion_peak", _F, False),  # the same in the most moving of 8 x 8 blocks, 98th percentile over pairs, 0..1
    ("pan_share", _F, True),  # share of frame pairs in which the whole picture moves, 0..1
    ("sharpness", _F, True),  # median over frames of the variance of the Laplacian, in squared grey levels
    ("letterbox_share", _F, True),  # share of the picture that is a constant dark bar at its borders, 0..1
    ("optical_flow", _F, True),  # mean speed in frame widths a second; null: not configured
    ("cuts", _I, False),
    ("cuts_learned", _I, True),  # by TransNetV2; null: not configured
    ("loudness_dbfs", _F, False),  # RMS level
    ("silence_share", _F, False),  # share of 0.1 s blocks under -50 dBFS
    ("clipping_share", _F, False),  # share of audio samples at full scale
    ("onsets_per_sec", _F, False),
    ("speech_share", _F, True),  # by Silero VAD, 0..1; null: not configured
    ("av_align", _F, True),  # matches / (onsets + peaks - matches), 0..1; null: no event at all
    ("av_offset_sec", _F, True),  # positive: sound is late against motion; null: sound or picture never changes
    ("av_correlation", _F, True),  # at the best offset
    ("av_confidence", _F, True),  # best peak over the best peak elsewhere
    ("sync_scorer", _S, True),  # name of the learned scorer that gave the next five; null: none did
    ("sync_score", _F, True),  # log odds that the sound belongs to the picture as it is placed
    ("sync_match", _F, True),  # log odds that it does so at the best offset
    ("sync_offset_sec", _F, True),  # best offset; positive: sound is late against the picture
    ("sync_confidence", _F, True),  # probability that the offset lies within 0.1 s of the best, 0..1
    ("synchronisability", _F, True),  # probability that there is one offset at which they belong together, 0..1
    ("image_audio_cosine", _F, True),  # by configured pretrained encoders; null: none configured
    ("image_text_cosine", _F, True),
    ("audio_text_cosine", _F, True),
)

REVIEWS = _schema(
    ("clip_id", _S, False),
    ("verdict", _S, False),
    ("reviewer", _S, False),
    ("seconds_spent", _F, False),
    ("at", _S, False),  # ISO 8601, UTC
    ("audio_shift_sec", _F, True),  # of `shift`: keep with this added to audio time; null for other verdicts
)

SELECTION = _schema(
    ("clip_id", _S, False),
    ("use", _S, False),
    ("reasons", _S, False),  # comma-separated; empty when kept
    ("weight", _F, False),
    ("audio_shift_sec", _F, False),  # added to audio time so that sound meets motion
)

SHARD_SAMPLES = _schema(
    ("key", _S, False),  # hash of clip_id, media_sha256, audio shift, window start, flip
    ("clip_id", _S, False),
    ("use", _S, False),
    ("caption", _S, False),
    ("weight", _F, False),
    ("window_start_us", _I, False),
    ("flip", _B, False),
    ("shard", _S, False),
    ("offset", _I, False),  # of the sample's first tar header, bytes
    ("size", _I, False),  # to the end of its last block, bytes
    ("bucket", _S, False),  # NxHxW: frames, height and width of its window
    ("sha256", _S, False),  # of those bytes of the shard
)

SCORER_GROUPS = _schema(
    ("group", _S, False),  # a group of clips that a sync scorer was trained on
)

TRUTH = _schema(
    ("source_uri", _S, False),
    ("label", _S, False),
    ("defect", _S, False),  # none, or one of config.tree.Defect
    ("audio_shift_sec", _F, False),  # how late the sound is against the picture
    ("event_times_sec", _S, False),  # JSON list, in the picture
    ("original", _S, False),  # source_uri of what a (near-)duplicate copies; else empty
    ("offset_identifiable", _B, False),  # events and sound fit at one offset only: synth.events.is_offset_identifiable
)


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], sort_by: Sequence[str]) -> int:
    """Write rows sorted by `sort_by`; equal rows give equal bytes. Returns the number of rows.

    Raises:
        DataError: a row does not fit the schema; the first such value is named by Arrow.
    """
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in sort_by))
    try:
        table = pa.Table.from_pylist([dict(row) for row in ordered], schema=schema)
        for field in schema:
            if not field.nullable and table.column(field.name).null_count:
                raise pa.ArrowInvalid(f"column {field.name!r} holds a null")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"rows for {path.name} do not fit their schema: {error}") from error
    write_arrow(path, table)
    return len(ordered)


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write an Arrow table as Parquet, whole or not at all."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=10_000)


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read all rows, checking that the file has exactly the columns of `schema`, with their types.

    Raises:
        DataError: not Parquet, or columns other than expected or of another type.
    """
    return [row for batch in read_batches(path, schema) for row in batch.to_pylist()]


def read_batches(path: Path, schema: pa.Schema, rows: int = 10_000) -> Iterator[pa.Table]:
    """Read a record in tables of `rows` rows, the last one with the rest, so that one at a time is in memory.

    Raises:
        DataError: not Parquet, or columns other than expected or of another type.
    """
    check_columns(path, open_record(path).schema_arrow, schema)
    yield from iterate_record(path, rows)

"""Fingerprints beside the clips of the store, one small file each, whole or not at all."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ...stages.files import atomic_path, write_json
from ..records import FINGERPRINTS
from .fingerprint import FINGERPRINT_VERSION, Fingerprint

_ROWS = 10_000


def fingerprint_path(media: Path) -> Path:
    """Where the fingerprint of the clip at `media` lies."""
    return media.with_suffix(".fingerprint.json")


def save_fingerprint(media: Path, made: Fingerprint) -> None:
    """Put the fingerprint beside its clip."""
    columns = {name: b64encode(part).decode() for name, part in made.to_bytes().items()}
    write_json(fingerprint_path(media), {"version": FINGERPRINT_VERSION, **columns})


def load_fingerprint(media: Path) -> dict[str, str | bytes] | None:
    """Version and columns of its row in FINGERPRINTS; None where the file is missing, damaged or of another version."""
    try:
        stored = json.loads(fingerprint_path(media).read_text(encoding="utf-8"))
        if stored.pop("version") != FINGERPRINT_VERSION:
            return None
        columns = {name: b64decode(text, validate=True) for name, text in stored.items()}
        Fingerprint.from_bytes(columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {"version": FINGERPRINT_VERSION, **columns}


def write_fingerprints(path: Path, clips: Iterable[tuple[str, Path]]) -> int:
    """Gather the fingerprints of `clips` (clip_id and media path) into one table; returns their number.

    A few thousand rows are in memory at a time. The order is that of `clips`; equal ones give equal bytes.

    Raises:
        DataError: a clip has no fingerprint in the store.
    """
    written = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, FINGERPRINTS, compression="zstd") as writer:
        rows = []
        for clip_id, media in clips:
            stored = load_fingerprint(media)
            if stored is None:
                raise DataError(f"clip {clip_id} has no fingerprint beside {media}; run `soundstage ingest` again")
            rows.append({"clip_id": clip_id, **stored})
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema=FINGERPRINTS))
                written, rows = written + len(rows), []
        if rows or not written:
            writer.write_table(pa.Table.from_pylist(rows, schema=FINGERPRINTS))
    return written + len(rows)

"""The corpus of fingerprints on disk: one row a clip, read without a Python object a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ..records import FINGERPRINTS
from .fingerprint import Fingerprints

_SHOWN = 3


def read_fingerprints(path: Path, clip_ids: Sequence[str]) -> Fingerprints:
    """Fingerprints of `clip_ids`, in their order.

    Raises:
        DataError: no Parquet, other columns or another version, or clips without a fingerprint.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}; rerun `soundstage ingest`") from error
    if table.schema.names != FINGERPRINTS.names:
        raise DataError(
            f"{path} has columns {table.schema.names}, expected {FINGERPRINTS.names}; rerun `soundstage ingest`"
        )
    place = {name: index for index, name in enumerate(table.column("clip_id").to_pylist())}
    if missing := sorted(set(clip_ids) - set(place)):
        raise DataError(
            f"{path}: {len(missing)} of {len(clip_ids)} clips have no fingerprint: {', '.join(missing[:_SHOWN])}; "
            "rerun `soundstage ingest`"
        )
    chosen = np.array([place[name] for name in clip_ids], np.int64)
    return Fingerprints.of_table(table).take(chosen)

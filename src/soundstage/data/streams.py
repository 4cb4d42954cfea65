"""Records read and written row by row, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..stages.files import atomic_path
from .batches import check_columns, iterate_record, open_record

BATCH_ROWS = 1024
"""rows held at a time, and rows of a group in the file: fixed, so that equal rows give equal bytes"""


def count_rows(path: Path, schema: pa.Schema) -> int:
    """Number of rows of a record, from its footer.

    Raises:
        DataError: not Parquet, or other columns than those of `schema`.
    """
    with open_record(path) as file:
        check_columns(path, file.schema_arrow, schema)
        return int(file.metadata.num_rows)


def stream_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a record in the order of the file, with `columns` alone.

    Raises:
        DataError: not Parquet, or damaged further on than its footer.
    """
    for table in iterate_record(path, BATCH_ROWS, columns):
        yield from table.to_pylist()


def write_stream(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], key: str) -> int:
    """Write rows that come sorted by `key`, whole or not at all; equal rows give equal bytes. Returns their number.

    Raises:
        DataError: a key is not greater than the one before, or a row does not fit the schema.
    """
    remaining, count, last = iter(rows), 0, ""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        while batch := list(islice(remaining, BATCH_ROWS)):
            for row in batch:
                if row[key] <= last:
                    raise DataError(
                        f"rows for {path.name} must come with ascending {key}, found {row[key]!r} after {last!r}; "
                        "rerun the stage that writes the record they are made from"
                    )
                last = row[key]
            writer.write_table(_table(path, schema, batch))
            count += len(batch)
    return count


def _table(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    try:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"rows for {path.name} do not fit their schema: {error}") from error
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise DataError(f"rows for {path.name} do not fit their schema: column {field.name!r} holds a null")
    return table

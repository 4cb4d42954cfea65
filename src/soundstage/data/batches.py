"""Parquet files read a number of rows at a time, and whether their columns are the expected ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError

_READ_AT_ONCE = 1 << 16  # bytes of a column


def open_record(path: Path) -> pq.ParquetFile:
    """The file's schema and number of rows, read from its footer.

    Raises:
        DataError: not Parquet, or it names a column twice.
    """
    try:
        # With Arrow's read-ahead the whole file would be held while its batches are read.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_AT_ONCE)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}; rerun the stage that writes it") from error
    names = file.schema_arrow.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: columns {twice} stand there more than once; rerun the stage that writes it")
    return file


def iterate_record(path: Path, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Tables of `rows` rows, the last one with the rest, with `columns` or all; a file without rows gives none.

    Raises:
        DataError: not Parquet, or damaged further on than its footer.
    """
    with open_record(path) as file:
        held: list[pa.RecordBatch] = []
        try:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                # A batch ends with its row group: what is left over waits for the next.
                held.append(batch)
                if sum(map(len, held)) >= rows:
                    table = pa.Table.from_batches(held)
                    yield table.slice(0, rows)
                    held = table.slice(rows).to_batches()
        except (pa.ArrowInvalid, OSError) as error:
            told = " ".join(str(error).split())
            raise DataError(f"{path} cannot be read to its end: {told}; rerun the stage that writes it") from error
        if held:
            yield pa.Table.from_batches(held)


def check_columns(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    """Refuse a file whose columns are not those of `expected`, in name, order and type.

    Raises:
        DataError: the columns, or the types, that differ.
    """
    if found.names != expected.names:
        missing = sorted(set(expected.names) - set(found.names))
        extra = sorted(set(found.names) - set(expected.names))
        raise DataError(f"{path}: missing columns {missing}, unknown columns {extra}; expected {expected.names}")
    if wrong := wrong_types(found, expected):
        raise DataError(f"{path}: columns of another type: {', '.join(wrong)}; rerun the stage that writes it")


def wrong_types(found: pa.Schema, expected: pa.Schema) -> list[str]:
    """Each column of `expected` that is missing from `found` or has another type there, with both types."""
    types = {field.name: field.type for field in found}
    return [
        f"{field.name} ({types.get(field.name, 'missing')}, not {field.type})"
        for field in expected
        if types.get(field.name) != field.type
    ]

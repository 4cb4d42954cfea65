"""A record that is read by partitions: what is asked of it holds one partition, or a few bytes a row, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .batches import iterate_record, open_record

Row = Mapping[str, Any]
_ROWS_IN_PYTHON = 500  # a row is a kilobyte or two as a dictionary
KEY = pa.binary(16)
"""A 128-bit hash stands for a string: among 10^9 strings, two share one with a probability under 10^-20."""


@dataclass(frozen=True)
class Record:
    """A Parquet file of a stage, whatever its columns; iterating it gives its rows, again each time."""

    path: Path
    partition_rows: int

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns as they are in the file.

        Raises:
            DataError: not Parquet.
        """
        return open_record(self.path).schema_arrow

    def __len__(self) -> int:
        """Number of rows."""
        return int(open_record(self.path).metadata.num_rows)

    def __iter__(self) -> Iterator[Row]:
        """Rows with all columns, in the order of the file."""
        return self.rows()

    def partitions(self, *columns: str) -> Iterator[pa.Table]:
        """Tables of `partition_rows` rows with `columns`, or all; a file without rows gives one table without rows."""
        empty = True
        for table in iterate_record(self.path, self.partition_rows, columns or None):
            empty = False
            yield table
        if empty:
            names = columns or self.schema.names
            yield pa.schema([self.schema.field(name) for name in names]).empty_table()

    def rows(self, *columns: str) -> Iterator[Row]:
        """Rows with `columns` (all where none is named), in the order of the file."""
        for table in self.partitions(*columns):
            for batch in table.to_batches(max_chunksize=_ROWS_IN_PYTHON):
                yield from batch.to_pylist()

    def column(self, name: str) -> pa.ChunkedArray:
        """All values of a column: for numbers and short strings."""
        chunks = [chunk for table in self.partitions(name) for chunk in table.column(name).chunks]
        return pa.chunked_array(chunks, type=self.schema.field(name).type)

    def keys(self, *columns: str) -> pa.ChunkedArray:
        """`KEY` of the values of `columns` in each row, null where one of them is null: 16 bytes a row."""
        chunks = [
            pa.array(map(key_of, *(table.column(name).to_pylist() for name in columns)), KEY)
            for table in self.partitions(*columns)
        ]
        return pa.chunked_array(chunks, type=KEY)

    def names(self, mask: pa.ChunkedArray, column: str = "clip_id") -> Iterator[str]:
        """Values of `column` in the rows where `mask` is true."""
        if not pc.any(mask).as_py():
            return
        start = 0
        for table in self.partitions(column):
            chosen = table.filter(mask.slice(start, len(table)))
            start += len(table)
            yield from map(str, chosen.column(column).to_pylist())


def key_of(*values: object) -> bytes | None:
    """The `KEY` of a row's values; null where one of them is."""
    if None in values:
        return None
    # repr keeps values apart that a mere separator would join.
    text = values[0] if len(values) == 1 and isinstance(values[0], str) else repr(values)
    return blake2b(text.encode(), digest_size=16).digest()


def repeated(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which rows have a key that more than one row has; null is no key."""
    counted = pa.table({"key": keys}).group_by("key").aggregate([([], "count_all")])
    more = counted.filter(pc.and_kleene(pc.greater(counted["count_all"], 1), pc.is_valid(counted["key"])))
    return pc.is_in(keys, value_set=more["key"])


def differing(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys that one side has oftener than the other, each once."""
    signs = pa.chunked_array([pa.repeat(1, len(a)), pa.repeat(-1, len(b))])
    keys = pa.chunked_array([*a.chunks, *b.chunks], type=KEY)
    balance = pa.table({"key": keys, "sign": signs}).group_by("key").aggregate([("sign", "sum")])
    return balance.filter(pc.not_equal(balance["sign_sum"], 0))["key"]

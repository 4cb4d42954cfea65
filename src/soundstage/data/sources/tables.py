"""Tables of videos: CSV, Parquet and JSON lines with one row a video or a range of one, checked line by line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from .item import WHOLE, Range

Columns = Mapping[str, tuple[str, ...]]
"""our name of a column -> the names it may have in a table"""
_Lines = Iterator[tuple[int, dict[str, Any] | DataError]]

TABLE_SUFFIXES = (".csv", ".parquet", ".jsonl")
# The first name of each is ours, the others are met in the wild.
COLUMNS: Columns = {
    "file": ("file", "uri", "url", "path"),
    "label": ("label",),
    "caption": ("caption", "text"),
    "licence": ("licence", "license"),
    "provenance": ("provenance",),
    "start_sec": ("start_sec", "start"),
    "end_sec": ("end_sec", "end"),
}
_WORDS = ("label", "caption", "licence", "provenance")


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    where: str
    """table and line, for messages"""
    file: str
    """as it is written"""
    range: Range
    words: Mapping[str, str]
    """label, caption, licence and provenance; empty where the row has none"""


def read_rows(name: str, data: bytes) -> Iterator[TableRow]:
    """Rows of the table called `name`, whose suffix tells its form; columns that are not known are left alone.

    Raises:
        DataError: not such a table, no column of files, an empty file, a time that is none; the line is named.
    """
    for line, row in read_lines(name, data, COLUMNS, ("file",)):
        if isinstance(row, DataError):
            raise row
        yield _row(f"{name}, line {line}", row)


def read_lines(
    name: str, data: bytes, columns: Columns, required: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Line and values of every row of the table called `name`, under our names of `columns`, as they are written.

    A row that cannot be read comes as the error that says why, so that whoever wants may go on without it.

    Raises:
        DataError: not such a table at all, or without a column that is `required`.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_json_lines}
    suffix = next((suffix for suffix in TABLE_SUFFIXES if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{name} is no table; its name must end in {', '.join(TABLE_SUFFIXES)}")
    return readers[suffix](name, data, columns, required)


def check_repeats(rows: Iterable[TableRow]) -> list[TableRow]:
    """The rows, after a check that none names the same range of the same file as another.

    Raises:
        DataError: one does; both lines are named.
    """
    seen: dict[tuple[str, Range], str] = {}
    found = []
    for row in rows:
        before = seen.setdefault((row.file, row.range), row.where)
        if before != row.where:
            line = before.rpartition(", line ")[2]
            raise DataError(f"{row.where}: {row.file!r} stands on line {line} already; keep one of them")
        found.append(row)
    return found


def decode_text(name: str, data: bytes) -> str:
    """The text of a table.

    Raises:
        DataError: not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} cannot be read: {error}; it must be a UTF-8 text file") from error


def _read_csv(name: str, data: bytes, columns: Columns, required: Sequence[str]) -> _Lines:
    reader = csv.DictReader(io.StringIO(decode_text(name, data), newline=""), strict=True)
    try:
        chosen = _choose(name, reader.fieldnames or (), columns, required)
        for row in reader:
            line = reader.line_num
            if None in row:
                yield line, DataError(f"{name}, line {line}: more values than columns; quote values that hold commas")
            else:
                yield line, {ours: row[theirs] for ours, theirs in chosen.items()}
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from error


def _read_json_lines(name: str, data: bytes, columns: Columns, required: Sequence[str]) -> _Lines:
    for line, text in enumerate(decode_text(name, data).split("\n"), 1):
        if text.strip():
            try:
                yield line, _json_row(f"{name}, line {line}", text, columns, required)
            except DataError as error:
                yield line, error


def _json_row(where: str, text: str, columns: Columns, required: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: each line must be a JSON object, found {text.strip()[:40]!r}")
    return {ours: row[theirs] for ours, theirs in _choose(where, list(row), columns, required).items()}


def _read_parquet(name: str, data: bytes, columns: Columns, required: Sequence[str]) -> _Lines:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data))
    except pa.ArrowInvalid as error:
        raise DataError(f"{name} cannot be read as Parquet: {error}") from error
    chosen = _choose(name, table.schema_arrow.names, columns, required)
    line = 0
    for batch in table.iter_batches(columns=list(chosen.values())):
        for row in batch.to_pylist():
            line += 1
            yield line, {ours: row[theirs] for ours, theirs in chosen.items()}


def _choose(where: str, names: Sequence[str], columns: Columns, required: Sequence[str]) -> dict[str, str]:
    """Our name of a column -> the table's, for the columns that the table has."""
    chosen = {}
    for ours, known in columns.items():
        found = [name for name in known if name in names]
        if len(found) > 1:
            raise DataError(f"{where}: the columns {' and '.join(found)} mean the same; keep one of them")
        if found:
            chosen[ours] = found[0]
    for missing in (name for name in required if name not in chosen):
        others = columns[missing][1:]
        also = f" (`{missing}` may be called {', '.join(others[:-1])} or {others[-1]})" if len(others) > 1 else ""
        raise DataError(
            f"{where}: no column `{missing}`, found {list(names)}; columns known: {', '.join(columns)}{also}"
        )
    return chosen


def _row(where: str, row: Mapping[str, Any]) -> TableRow:
    file = plain_text(where, "file", row["file"], keep_spaces=True)
    if not file.strip():
        raise DataError(f"{where}: `file` is empty; it must name a video relative to the table")
    words = {name: plain_text(where, name, row.get(name)) for name in _WORDS}
    return TableRow(where, file, _range(where, row), words)


def plain_text(where: str, column: str, value: Any, *, keep_spaces: bool = False) -> str:
    """A value as text, empty where there is none; runs of spaces become one unless they are kept.

    Raises:
        DataError: a value that is no text or number, or no valid Unicode.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: `{column}` must be text, found {value!r}")
    text = str(value)
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{where}: `{column}` is no valid Unicode text: {value!r}")
    return text if keep_spaces else " ".join(text.split())


def _range(where: str, row: Mapping[str, Any]) -> Range:
    start = _microseconds(where, "start_sec", row.get("start_sec"))
    end = _microseconds(where, "end_sec", row.get("end_sec"))
    if end is not None and end <= (start or 0):
        raise DataError(f"{where}: the span ends at {end / 1e6:g} s and starts at {(start or 0) / 1e6:g} s")
    return Range(start or 0, WHOLE.end_us if end is None else end)


def _microseconds(where: str, column: str, value: Any) -> int | None:
    text = plain_text(where, column, value)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < 1e7:
        raise DataError(f"{where}: `{column}` must be seconds from 0, found {text!r}")
    return round(seconds * 1_000_000)

"""Tables in three forms say the same, and what cannot be used is refused by line."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from soundstage.data.sources.item import WHOLE, Range
from soundstage.data.sources.tables import check_repeats, read_rows
from soundstage.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"file": "a b.mp4", "label": "dog", "caption": "a dog,  barking", "start_sec": 1.5, "end_sec": 3.25, "other": "1"},
    {"file": "sub/ü.mkv", "label": None, "caption": "wind", "start_sec": None, "end_sec": None, "other": "2"},
    {"file": "https://x.org/c.mp4?id=5", "label": "cat", "caption": None, "start_sec": 0, "end_sec": 2, "other": None},
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    quoted = ['"' + str("" if value is None else value) + '"' for row in rows for value in row.values()]
    width = len(rows[0])
    lines = [",".join(rows[0]), *(",".join(quoted[i : i + width]) for i in range(0, len(quoted), width))]
    return ("\ufeff" + "\r\n".join(lines) + "\r\n").encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n\n".join(json.dumps(row) for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "write"), [("t.csv", as_csv), ("T.PARQUET", as_parquet), ("t.jsonl", as_json_lines)], ids=lambda v: str(v)
)
def test_three_forms_of_one_table_say_the_same(name: str, write: Any) -> None:
    rows = list(read_rows(name, write(ROWS)))
    assert [row.file for row in rows] == ["a b.mp4", "sub/ü.mkv", "https://x.org/c.mp4?id=5"]
    assert [row.range for row in rows] == [Range(1_500_000, 3_250_000), WHOLE, Range(0, 2_000_000)]
    assert [row.words["label"] for row in rows] == ["dog", "", "cat"]
    assert [row.words["caption"] for row in rows] == ["a dog, barking", "wind", ""]


@pytest.mark.parametrize("column", ["file", "uri", "url", "path"])
def test_the_column_of_files_has_several_names(column: str) -> None:
    (row,) = read_rows("t.csv", f"{column},text,license,start\na.mp4,a dog,CC0,2\n".encode())
    assert (row.file, row.range) == ("a.mp4", Range(2_000_000, -1))
    assert (row.words["caption"], row.words["licence"]) == ("a dog", "CC0")


def test_numbers_and_missing_numbers_are_text() -> None:
    first, second = read_rows("t.parquet", as_parquet([{"file": "a", "label": 3.0}, {"file": "b", "label": math.nan}]))
    assert (first.words["label"], second.words["label"]) == ("3.0", "")


CASES = [
    ("t.csv", b"name,label\na.mkv,dog\n", r"t.csv: no column `file`, found \['name', 'label'\]"),
    ("t.csv", b"", "no column `file`"),
    ("t.csv", b"file,label\na.mkv,dog,brown\n", "line 2: more values than columns"),
    ("t.csv", b"file,label\n,dog\n", "line 2: `file` is empty"),
    ("t.csv", b'file,label\na.mkv,"dog\n', "not valid CSV"),
    ("t.csv", b"file,label\na.mkv,caf\xe9\n", "UTF-8"),
    ("t.csv", b"file,uri\na,b\n", "the columns file and uri mean the same"),
    ("t.csv", b"file,start_sec,start\na,1,1\n", "the columns start_sec and start mean the same"),
    ("t.csv", b"file,start_sec\na.mp4,soon\n", "line 2: `start_sec` must be seconds from 0, found 'soon'"),
    ("t.csv", b"file,start_sec\na.mp4,-1\n", "found '-1'"),
    ("t.csv", b"file,end_sec\na.mp4,nan\n", "`end_sec` must be seconds"),
    ("t.csv", b"file,end_sec\na.mp4,1e300\n", "`end_sec` must be seconds"),
    ("t.csv", b"file,start_sec,end_sec\na.mp4,3,3\n", "line 2: the span ends at 3 s and starts at 3 s"),
    ("t.csv", b"file,end_sec\na.mp4,0\n", "the span ends at 0 s"),
    ("t.csv", b"file\na.mp4\nb.mp4\na.mp4\n", "line 4: 'a.mp4' stands on line 2 already"),
    ("t.jsonl", b'{"file": "a.mp4"}\n{"file": ', "line 2: not valid JSON"),
    ("t.jsonl", b'["a.mp4"]', "line 1: each line must be a JSON object"),
    ("t.jsonl", b'{"label": "a"}', "line 1: no column `file`"),
    ("t.jsonl", b'{"file": "a.mp4", "label": ["dog"]}', r"line 1: `label` must be text, found \['dog'\]"),
    ("t.jsonl", b'{"file": "a.mp4", "caption": "\\ud800"}', "line 1: `caption` is no valid Unicode text"),
    ("t.parquet", b"no parquet", "cannot be read as Parquet"),
    ("t.parquet", as_parquet([{"name": "a"}]), "no column `file`"),
]


@pytest.mark.parametrize(("name", "data", "words"), CASES, ids=[f"{name}-{words[:30]}" for name, _, words in CASES])
def test_bad_tables_are_refused_by_line(name: str, data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_repeats(read_rows(name, data))


def test_spans_of_one_file_are_different_rows() -> None:
    rows = check_repeats(read_rows("t.csv", b"file,start_sec,end_sec\na,0,1\na,1,2\na,,\n"))
    assert [row.range for row in rows] == [Range(0, 1_000_000), Range(1_000_000, 2_000_000), WHOLE]

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from soundstage.data import streams
from soundstage.data.streams import count_rows, stream_rows, write_stream
from soundstage.errors import DataError

SCHEMA = pa.schema([pa.field("name", pa.string(), False), pa.field("value", pa.float64(), True)])


def _rows(count: int) -> list[dict[str, Any]]:
    return [{"name": f"{number:06d}", "value": number / 2 if number % 3 else None} for number in range(count)]


def test_rows_come_back_in_groups_of_a_fixed_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_ROWS", 8)
    path = tmp_path / "a.parquet"
    assert write_stream(path, SCHEMA, iter(_rows(21)), "name") == 21
    assert [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(3)] == [8, 8, 5]
    assert list(stream_rows(path, ["name", "value"])) == _rows(21)
    assert list(stream_rows(path, ["value"]))[4] == {"value": 2.0}
    assert count_rows(path, SCHEMA) == 21


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        write_stream(path, SCHEMA, _rows(30), "name")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_no_rows_make_an_empty_record(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert write_stream(path, SCHEMA, [], "name") == 0
    assert list(stream_rows(path, ["name"])) == []
    assert count_rows(path, SCHEMA) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*_rows(2), *_rows(1)], "ascending name, found '000000' after '000001'"),
        ([*_rows(1), *_rows(1)], "ascending name, found '000000' after '000000'"),
        ([{"name": "a", "value": "loud"}], "do not fit their schema"),
        ([{"name": "a", "value": 1.0}, {"name": "b", "value": None}, {"name": "c"}], None),
    ],
    ids=["descending", "twice", "wrong type", "nulls where allowed"],
)
def test_rows_that_do_not_fit_leave_no_file(tmp_path: Path, rows: list[dict[str, Any]], message: str | None) -> None:
    path = tmp_path / "a.parquet"
    if message is None:
        assert write_stream(path, SCHEMA, rows, "name") == 3
        return
    with pytest.raises(DataError, match=message):
        write_stream(path, SCHEMA, rows, "name")
    assert list(tmp_path.iterdir()) == []


def test_a_null_where_none_may_be_is_named(tmp_path: Path) -> None:
    strict = pa.schema([pa.field("name", pa.string(), False), pa.field("value", pa.float64(), False)])
    with pytest.raises(DataError, match="column 'value' holds a null"):
        write_stream(tmp_path / "a.parquet", strict, _rows(2), "name")


def test_other_columns_than_expected_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_stream(path, SCHEMA, _rows(2), "name")
    with pytest.raises(DataError, match=r"missing columns \['more'\]"):
        count_rows(path, pa.schema([*SCHEMA, pa.field("more", pa.int64())]))

"""Tables appear whole, in one order, with the columns that were agreed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from soundstage.data.records import REVIEWS, SELECTION, read_table, write_table
from soundstage.errors import DataError

ROW: dict[str, Any] = {"clip_id": "a", "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}


def rows(*ids: str) -> list[dict[str, Any]]:
    return [ROW | {"clip_id": name} for name in ids]


def test_equal_rows_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    assert write_table(tmp_path / "a.parquet", SELECTION, rows("c", "a", "b"), ["clip_id"]) == 3
    write_table(tmp_path / "b.parquet", SELECTION, reversed(rows("b", "a", "c")), ["clip_id"])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert [row["clip_id"] for row in read_table(tmp_path / "a.parquet", SELECTION)] == ["a", "b", "c"]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", SELECTION, [], ["clip_id"])
    assert read_table(tmp_path / "a.parquet", SELECTION) == []
    assert pq.read_schema(tmp_path / "a.parquet").metadata[b"soundstage_schema_version"] == b"2"


@pytest.mark.parametrize("bad", [{"weight": "heavy"}, {"weight": None}, {"use": 3}], ids=str)
def test_a_row_that_does_not_fit_is_refused_and_nothing_written(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"rows for a\.parquet do not fit their schema"):
        write_table(tmp_path / "a.parquet", SELECTION, [ROW | bad], ["clip_id"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    incomplete = {name: value for name, value in ROW.items() if name != "reasons"}
    with pytest.raises(DataError, match="column 'reasons' holds a null"):
        write_table(tmp_path / "a.parquet", SELECTION, [incomplete], ["clip_id"])


def test_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", SELECTION, rows("a"), ["clip_id"])
    with pytest.raises(DataError, match=r"missing columns \['at', 'reviewer', 'seconds_spent', 'verdict'\], unknown"):
        read_table(tmp_path / "a.parquet", REVIEWS)


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("clip_id\n")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        read_table(tmp_path / "a.parquet", SELECTION)
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as Parquet"):
        read_table(tmp_path / "b.parquet", SELECTION)

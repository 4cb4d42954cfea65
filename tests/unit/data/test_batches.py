"""Tables come by the number of rows asked for, whatever row groups the file has, and columns are checked with types."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from soundstage.data.batches import check_columns, iterate_record, open_record
from soundstage.data.records import SELECTION, read_batches, read_table
from soundstage.errors import DataError

TABLE = pa.table({"n": range(23), "name": [f"row {n}" for n in range(23)]})


@pytest.mark.parametrize("group", [1, 4, 10, 23], ids=lambda group: f"groups of {group}")
@pytest.mark.parametrize("rows", [1, 5, 10, 22, 23, 100], ids=lambda rows: f"{rows} rows")
def test_row_groups_do_not_show(tmp_path: Path, group: int, rows: int) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=group)
    tables = list(iterate_record(tmp_path / "t.parquet", rows))
    assert [len(table) for table in tables] == [min(rows, 23 - start) for start in range(0, 23, rows)]
    assert pa.concat_tables(tables).to_pylist() == TABLE.to_pylist()


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    (table,) = iterate_record(tmp_path / "t.parquet", 100, ["n"])
    assert table.column_names == ["n"]


def test_a_file_damaged_behind_its_footer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path, compression="zstd")
    damaged = bytearray(path.read_bytes())
    damaged[4:120] = bytes(116)
    path.write_bytes(damaged)
    assert open_record(path).metadata.num_rows == 23
    with pytest.raises(DataError, match=r"t\.parquet cannot be read to its end: .*; rerun the stage"):
        list(iterate_record(path, 10))


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(TABLE.append_column("n", TABLE["n"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: columns \['n'\] stand there more than once"):
        open_record(tmp_path / "t.parquet")


def _selection(**columns: pa.Array) -> pa.Table:
    table = pa.Table.from_pylist(
        [{"clip_id": "a", "use": "test", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}], schema=SELECTION
    )
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def test_another_type_is_refused_by_column_found_and_expected(tmp_path: Path) -> None:
    pq.write_table(_selection(weight=pa.array(["1"]), use=pa.array([3])), tmp_path / "s.parquet")
    wanted = r"s\.parquet: columns of another type: use \(int64, not string\), weight \(string, not double\); rerun"
    with pytest.raises(DataError, match=wanted):
        read_table(tmp_path / "s.parquet", SELECTION)
    with pytest.raises(DataError, match=wanted):
        next(read_batches(tmp_path / "s.parquet", SELECTION))


def test_columns_in_another_order_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"x\.parquet: missing columns \[\], unknown columns \[\]; expected \['clip_id'"
    ):
        check_columns(Path("x.parquet"), pa.schema(list(reversed(SELECTION))), SELECTION)

"""What is asked of a record does not depend on its partitions, and agrees with plain Python on whole tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from soundstage.data.partitions import Record, differing, key_of, repeated
from soundstage.errors import DataError

SIZES = pytest.mark.parametrize("rows", [1, 7, 30, 100], ids=lambda rows: f"partitions of {rows}")


def _record(path: Path, names: list[str | None], rows: int, numbers: list[int] | None = None) -> Record:
    table = pa.table({"clip_id": pa.array(names, pa.string()), "n": pa.array(numbers or range(len(names)), pa.int64())})
    pq.write_table(table, path, row_group_size=9)
    return Record(path, rows)


def _draw(seed: int, count: int = 30) -> list[str]:
    return [f"clip {n}" for n in np.random.default_rng(seed).integers(0, 25, count)]


@SIZES
def test_rows_columns_and_length_are_those_of_the_file(tmp_path: Path, rows: int) -> None:
    names = _draw(1)
    record = _record(tmp_path / "r.parquet", [*names], rows)
    assert len(record) == 30
    assert [row["clip_id"] for row in record] == names == [row["clip_id"] for row in record]
    assert record.column("n").to_pylist() == list(range(30))
    assert list(record.rows("n"))[29] == {"n": 29}
    assert [len(part) for part in record.partitions()] == [min(rows, 30 - start) for start in range(0, 30, rows)]


@SIZES
def test_repeated_names_every_row_of_a_repeated_value_and_no_null(tmp_path: Path, rows: int) -> None:
    names = [*_draw(2), None, None]
    record = _record(tmp_path / "r.parquet", names, rows)
    counts = Counter(name for name in names if name is not None)
    wanted = [name for name in names if name is not None and counts[name] > 1]
    assert wanted
    assert list(record.names(repeated(record.keys("clip_id")))) == wanted


def test_several_columns_repeat_together_only(tmp_path: Path) -> None:
    record = _record(tmp_path / "r.parquet", ["a", "a", "b", "b"], 3, [1, 2, 1, 1])
    assert repeated(record.keys("clip_id", "n")).to_pylist() == [False, False, True, True]


@SIZES
def test_differing_is_the_difference_of_multisets(tmp_path: Path, rows: int) -> None:
    a, b = _draw(3), _draw(4, 20)
    keys = [_record(tmp_path / f"{name}.parquet", [*ids], rows).keys("clip_id") for name, ids in (("a", a), ("b", b))]
    wanted = (Counter(a) - Counter(b)) + (Counter(b) - Counter(a))
    assert len(wanted) > 5
    assert Counter(differing(*keys).to_pylist()) == Counter(key_of(name) for name in wanted)


def test_joined_values_do_not_collide() -> None:
    assert key_of("a", "b,c") != key_of("a,b", "c")
    assert key_of("1") != key_of(1)
    assert key_of("a", None) is None


def test_an_empty_record_is_one_partition_without_rows(tmp_path: Path) -> None:
    record = _record(tmp_path / "r.parquet", [], 5)
    (part,) = record.partitions()
    assert (len(part), part.column_names) == (0, ["clip_id", "n"])
    assert record.keys("clip_id").to_pylist() == list(record) == []
    assert list(record.names(pc.equal(record.column("n"), 1))) == []


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_text("clip_id\n")
    with pytest.raises(DataError, match=r"r\.parquet cannot be read as Parquet"):
        len(Record(tmp_path / "r.parquet", 5))

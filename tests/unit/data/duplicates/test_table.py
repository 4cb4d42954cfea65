"""The table of fingerprints belongs to its clips, or says which are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundstage.data.duplicates.fingerprint import FINGERPRINT_VERSION
from soundstage.data.duplicates.table import read_fingerprints
from soundstage.data.records import FINGERPRINTS, REJECTS, write_table
from soundstage.errors import DataError

from .makers import random_print


def test_fingerprints_come_in_the_order_of_the_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prints = {name: random_print(rng, 1.0 + place) for place, name in enumerate("dacb")}
    rows = [{"clip_id": name, "version": FINGERPRINT_VERSION, **each.to_bytes()} for name, each in prints.items()]
    write_table(tmp_path / "f.parquet", FINGERPRINTS, rows, sort_by=["clip_id"])
    read = read_fingerprints(tmp_path / "f.parquet", ["c", "a", "d"])
    assert [read[index].to_bytes() for index in range(3)] == [prints[name].to_bytes() for name in "cad"]
    with pytest.raises(DataError, match="2 of 3 clips have no fingerprint: e, f"):
        read_fingerprints(tmp_path / "f.parquet", ["f", "a", "e"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_fingerprints(tmp_path / "text", [])
    write_table(tmp_path / "rejects", REJECTS, [], sort_by=["source_uri"])
    with pytest.raises(DataError, match=r"has columns .*source_uri.*expected"):
        read_fingerprints(tmp_path / "rejects", [])

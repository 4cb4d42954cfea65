"""Fingerprints go to bytes and tables and back, and say so when they cannot."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from soundstage.data.duplicates.fingerprint import FINGERPRINT_VERSION, Fingerprint, Fingerprints, fingerprint
from soundstage.data.records import FINGERPRINTS
from soundstage.errors import DataError

from .makers import random_print, world_clip


def assert_equal(a: Fingerprint, b: Fingerprint) -> None:
    for name in ("sound", "picture", "picture_sure", "motion"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def table(prints: list[Fingerprint], **changed: object) -> pa.Table:
    rows = [
        {"clip_id": f"{n}", "version": FINGERPRINT_VERSION, **each.to_bytes(), **changed}
        for n, each in enumerate(prints)
    ]
    return pa.Table.from_pylist(rows, schema=FINGERPRINTS)


def test_a_second_takes_252_bytes() -> None:
    made = world_clip(0, 0).fingerprint()
    # Sound ends where no whole window fits: 0.37 s before the end.
    assert {name: len(part) for name, part in made.to_bytes().items()} == {
        "sound": 4 * (int(3.63 * 25) + 1),
        "picture": 8 * 32,
        "picture_sure": 8 * 32,
        "motion": 96,
    }
    assert_equal(Fingerprint.from_bytes(made.to_bytes()), made)


def test_the_same_clip_gives_the_same_bytes() -> None:
    clip = world_clip(0, 3)
    assert clip.fingerprint().to_bytes() == clip.fingerprint().to_bytes()


def test_a_clip_too_short_to_hear_has_a_picture() -> None:
    made = fingerprint(np.zeros((1, 16, 16, 3), np.uint8), 24, np.zeros(600, np.float32), 16000)
    assert [len(made.sound), len(made.picture), len(made.motion)] == [0, 1, 1]
    assert_equal(Fingerprints.of([made])[0], made)


@pytest.mark.parametrize("first", [0, 3])
def test_tables_in_pieces_give_what_was_put_in(first: int) -> None:
    rng = np.random.default_rng(0)
    prints = [random_print(rng, seconds) for seconds in (1.0, 4.0, 0.5, 2.5, 3.0, 1.5, 6.0)]
    whole = pa.concat_tables([table(prints[:2]), table(prints[2:])])
    read = Fingerprints.of_table(whole.slice(first))
    assert len(read) == len(prints) - first
    for index, wanted in enumerate(prints[first:]):
        assert_equal(read[index], wanted)


def test_some_are_taken_in_any_order() -> None:
    rng = np.random.default_rng(1)
    prints = [random_print(rng, seconds) for seconds in (1.0, 4.0, 0.5, 2.5)]
    for index, wanted in enumerate((2, 0, 3)):
        assert_equal(Fingerprints.of(prints).take(np.array([2, 0, 3]))[index], prints[wanted])


def test_no_clip_is_no_fingerprint() -> None:
    assert len(Fingerprints.of_table(FINGERPRINTS.empty_table())) == 0
    assert len(Fingerprints.of([])) == 0


def test_other_versions_and_broken_columns_are_refused() -> None:
    prints = [random_print(np.random.default_rng(0))]
    with pytest.raises(DataError, match=r"have version 0, this code compares version .*rerun `soundstage ingest`"):
        Fingerprints.of_table(table(prints, version="0"))
    with pytest.raises(DataError, match="a broken column of 8-byte words"):
        Fingerprints.of_table(table(prints, picture=b"123"))

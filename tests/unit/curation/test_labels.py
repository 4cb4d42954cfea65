"""Where labels come from, and what is refused."""

from pathlib import Path

import pytest

from soundstage.curation.labels import labels_of_reviews, labels_of_table, labels_of_truth
from soundstage.errors import DataError
from tests.unit.curation.records import clip_id, clip_row, review_row, truth_row


def test_people_label_and_the_latest_verdict_counts() -> None:
    rows = [
        review_row(0, "keep"),
        review_row(0, "drop", at="2031-01-01T10:00:00Z"),
        review_row(1, "shift"),
        review_row(2, "keep", "simulated"),
    ]
    assert labels_of_reviews(rows) == {clip_id(0): "drop", clip_id(1): "shift"}


def test_the_truth_table_labels_what_it_can() -> None:
    defects = ["none", "near_duplicate", "periodic", "swapped", "cut", "shifted", "shifted"]
    truth = [truth_row(n, defect) for n, defect in enumerate(defects)]
    truth[6]["offset_identifiable"] = False
    labels = labels_of_truth(truth, [clip_row(n) for n in range(8)])
    assert labels == {clip_id(n): v for n, v in enumerate(["keep", "keep", "keep", "drop", "drop", "shift"])}


def test_a_table_labels_by_clip_id(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"Verdict,note,clip_id\nKEEP,x,{clip_id(0)}\n,y,{clip_id(1)}\ndrop,z,'{clip_id(2)}\n")
    assert labels_of_table(path, [clip_id(n) for n in range(3)]) == {clip_id(0): "keep", clip_id(2): "drop"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("nobody,keep\n", "line 2: clip_id 'nobody' is no clip"),
        (f"{clip_id(0)},good\n", "line 2: verdict 'good', expected keep, drop, shift"),
        (f"{clip_id(0)},keep\n{clip_id(0)},drop\n", "line 3: clip .* has two verdicts"),
    ],
)
def test_wrong_labels_are_named_by_line(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("clip_id,verdict\n" + rows)
    with pytest.raises(DataError, match=message):
        labels_of_table(path, [clip_id(0)])

"""Seconds of people per clip gained, counted by hand."""

import pytest

from soundstage.curation.effort import describe_effort, effort_report
from tests.unit.curation.records import clip_id, clip_row, review_row


def _use(number: int, use: str) -> dict[str, str]:
    return {"clip_id": clip_id(number), "use": use}


CLIPS = [clip_row(n, label="ab"[n % 2], split="test" if n == 9 else "pretrain") for n in range(10)]
REVIEWS = [
    review_row(0, "drop", seconds_spent=3.0),
    review_row(0, "keep", "bo", seconds_spent=5.0, at="2031-01-01T10:00:00Z"),
    review_row(1, "shift", seconds_spent=8.0),
    review_row(2, "drop", seconds_spent=2.0),
    review_row(3, "keep", "simulated", seconds_spent=0.0),
    review_row(77, "keep", seconds_spent=2.0),
]
SELECTION = [_use(0, "finetune"), _use(1, "finetune"), _use(2, "dropped"), _use(3, "finetune")] + [
    _use(n, "pretrain") for n in range(4, 9)
]


def test_effort_is_counted_over_people_alone() -> None:
    report = effort_report(REVIEWS, CLIPS, SELECTION)
    assert (report["rows"], report["seconds"], report["of_unknown_clips"]) == (5, 20.0, 1)
    assert report["reviewers"] == ["ana", "bo"]
    assert (report["clips_reviewed"], report["verdicts"]) == (3, {"keep": 1, "drop": 1, "shift": 1})
    assert report["per_class"] == {
        "a": {"clips": 5, "reviewed": 2, "keep": 1, "drop": 1, "shift": 0},
        "b": {"clips": 4, "reviewed": 1, "keep": 0, "drop": 0, "shift": 1},
    }
    assert (report["stage_two_clips"], report["stage_two_clips_by_people"]) == (3, 2)
    assert report["sec_per_stage_two_clip"] == 10.0
    assert report["sec_per_stage_one_clip"] == 4.0
    assert report["sec_per_verdict"] == 4.0
    assert report["times_less_work"] == pytest.approx(8 / 3)
    text = describe_effort(report)
    assert "2 of them kept by people in 10.00 s each" in text
    assert "2.7 times less" in text


def test_nothing_is_made_up_without_people_or_selection() -> None:
    report = effort_report([review_row(3, "keep", "simulated")], CLIPS, SELECTION)
    assert report["rows"] == 0
    assert {report[k] for k in ("sec_per_verdict", "sec_per_stage_one_clip", "times_less_work")} == {None}
    assert "unknown" in describe_effort(report)
    assert "run `soundstage select`" in describe_effort(effort_report(REVIEWS, CLIPS))

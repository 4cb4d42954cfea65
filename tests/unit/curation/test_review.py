from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from soundstage.config import Config
from soundstage.config.slices import ReviewSlice
from soundstage.config.tree import ReviewConfig, SelectConfig, WindowConfig
from soundstage.curation import review
from soundstage.data.records import CLIPS, REVIEWS, SIGNALS, TRUTH, read_table, write_table
from soundstage.errors import DataError
from soundstage.stages import StageRecord, Workspace, execute
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row, truth_row


def _run(
    workspace: Workspace, defects: Sequence[str] | None, splits: Sequence[str] | None = None, **config: Any
) -> tuple[StageRecord, list[dict[str, Any]]]:
    numbers = range(len(defects or "four"))
    clips = [clip_row(n, split=(splits or ["pretrain"] * len(numbers))[n], label=f"class {n % 3}") for n in numbers]
    files = {"rejects.txt": lambda p: p.write_text("")}
    if defects is not None:
        truth = [truth_row(n, defect) for n, defect in enumerate(defects)]
        files["truth.parquet"] = lambda p: write_table(p, TRUTH, truth, ["source_uri"])
    signals = [signals_row(n) for n in numbers]
    inputs = {
        "ingest": put(workspace, "ingest", files),
        "clips": put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, clips, ["clip_id"])}),
        "signals": put(
            workspace, "score", {"signals.parquet": lambda p: write_table(p, SIGNALS, signals, ["clip_id"])}
        ),
    }
    slice_ = ReviewSlice(review=ReviewConfig(**config), select=SelectConfig(), window=WindowConfig())
    record = execute("review", review.run, slice_, inputs, workspace, code_version="t", cacheable=False).record
    return record, read_table(workspace.output(record, "reviews.parquet"), REVIEWS)


def test_the_simulated_reviewer_errs_at_its_rate_and_repeats(tmp_path: Path) -> None:
    defects = ["none", "swapped"] * 200
    workspace = Workspace.open(tmp_path)
    record, rows = _run(workspace, defects, reviewer="simulated", clips=400, error_rate=0.1)
    truth = {clip_id(n): "keep" if defect == "none" else "drop" for n, defect in enumerate(defects)}
    wrong = sum(row["verdict"] != truth[row["clip_id"]] for row in rows)
    assert len(rows) == 400
    assert 20 <= wrong <= 62  # binomial(400, 0.1): seven standard deviations would be 0 to 82
    assert {(r["reviewer"], r["seconds_spent"], r["at"]) for r in rows} == {("simulated", 0.0, "1970-01-01T00:00:00Z")}
    again, _ = _run(workspace, defects, reviewer="simulated", clips=400, error_rate=0.1)
    assert again.content == record.content
    _, exact = _run(workspace, defects, reviewer="simulated", clips=400, error_rate=0.0)
    assert all(row["verdict"] == truth[row["clip_id"]] for row in exact)


def test_only_pretraining_clips_are_reviewed_and_a_surviving_copy_is_clean(tmp_path: Path) -> None:
    splits = ["pretrain", "test", "validation", "pretrain"]
    _, rows = _run(
        Workspace.open(tmp_path), ["duplicate", "none", "none", "cut"], splits, reviewer="simulated", error_rate=0.0
    )
    assert {row["clip_id"]: row["verdict"] for row in rows} == {clip_id(0): "keep", clip_id(3): "drop"}


def test_without_a_truth_table_nothing_is_made_up(tmp_path: Path) -> None:
    record, rows = _run(Workspace.open(tmp_path), None, reviewer="simulated")
    assert rows == []
    assert record.notes["reviewer"] == "no truth table: nothing reviewed"


def test_people_win_over_simulation_and_the_latest_verdict_counts(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    review.append_reviews(workspace, [review_row(0, "keep", at="2030-01-01T10:00:00.5Z")])
    review.append_reviews(workspace, [review_row(0, "drop", at="2030-01-01T10:00:01Z"), review_row(77)])
    record, rows = _run(workspace, ["none"] * 4, reviewer="simulated", error_rate=0.0)
    latest = review.latest_verdicts(rows)
    assert latest[clip_id(0)]["verdict"] == "drop"
    assert latest[clip_id(1)]["reviewer"] == "simulated"
    assert record.counts == {
        "reviews": 5,
        "reviews_human": 2,
        "reviews_simulated": 3,
        "reviews_of_unknown_clips": 1,
        "clips_kept": 3,
        "human_seconds": 9,
    }
    simulated_later = review_row(0, "keep", "simulated", at="2040-01-01T10:00:00Z")
    assert review.latest_verdicts([*rows, simulated_later])[clip_id(0)]["verdict"] == "drop"


def test_a_shift_is_a_clip_kept(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    review.append_reviews(workspace, [review_row(0, "shift"), review_row(1, "drop")])
    record, rows = _run(workspace, None)
    assert record.counts["clips_kept"] == 1
    assert [row["audio_shift_sec"] for row in rows] == [0.3, None]


def test_effort_counts_people_only() -> None:
    rows = [review_row(0, seconds_spent=3.0), review_row(1, reviewer="simulated", seconds_spent=100.0)]
    assert review.effort(rows) == 3.0


def test_the_ledger_keeps_order_and_its_digest_follows_human_rows(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    empty = review.ledger_digest(Config(), workspace)
    review.append_reviews(workspace, [review_row(5), review_row(1)])
    first = review.ledger_digest(Config(), workspace)
    review.append_reviews(workspace, [review_row(3)])
    assert [row["clip_id"] for row in review.read_reviews(workspace)] == [clip_id(5), clip_id(1), clip_id(3)]
    assert len({empty, first, review.ledger_digest(Config(), workspace)}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "maybe"}, "verdict 'maybe', expected one of keep, drop"),
        ({"reviewer": "simulated"}, "a person's name"),
        ({"seconds_spent": float("nan")}, "seconds_spent"),
        ({"seconds_spent": -1.0}, "seconds_spent"),
        ({"at": "yesterday"}, "ISO 8601"),
        ({"at": "2030-01-01T10:00:00"}, "in UTC"),
        ({"mood": "good"}, "columns"),
        ({"verdict": "shift"}, "audio_shift_sec None, expected the seconds to add"),
        ({"verdict": "shift", "audio_shift_sec": float("inf")}, "audio_shift_sec inf"),
        ({"audio_shift_sec": 0.5}, "audio_shift_sec 0.5 with verdict keep, expected it with `shift` alone"),
    ],
)
def test_a_row_that_is_no_human_verdict_leaves_the_ledger_as_it_was(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    workspace = Workspace.open(tmp_path)
    review.append_reviews(workspace, [review_row(0)])
    with pytest.raises(DataError, match=message):
        review.append_reviews(workspace, [review_row(1), review_row(2) | changes])
    assert len(review.read_reviews(workspace)) == 1

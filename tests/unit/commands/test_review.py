"""The round trip of verdicts as a user makes it: export, fill in, import, look at the status."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.curation.review import read_reviews
from soundstage.data.records import CLIPS, REVIEWS, SELECTION, SIGNALS, write_table
from soundstage.stages import Workspace
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row


@pytest.fixture(scope="module")
def app() -> Any:
    return cli.build()


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Six clips: 0 and 1 uncertain, 2 and 3 sure, 4 cut, 5 of the test split; 1 kept by simulation."""
    workspace = Workspace.open(tmp_path / "workspace")
    clips = [clip_row(n, split="test" if n == 5 else "pretrain") for n in range(6)]
    correlations = [0.26, 0.24, 0.9, 0.8, 0.26, 0.26]
    signals = [signals_row(n, av_correlation=r, cuts=int(n == 4)) for n, r in enumerate(correlations)]
    simulated = [review_row(1, "keep", "simulated", seconds_spent=0.0)]
    uses = ["finetune", "pretrain", "pretrain", "pretrain", "dropped", "test"]
    selection = [
        {"clip_id": clip_id(n), "use": use, "reasons": "cut" if use == "dropped" else "", "weight": 1.0,
         "audio_shift_sec": 0.0}
        for n, use in enumerate(uses)
    ]  # fmt: skip
    put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, clips, ["clip_id"])})
    put(workspace, "score", {"signals.parquet": lambda p: write_table(p, SIGNALS, signals, ["clip_id"])})
    put(workspace, "review", {"reviews.parquet": lambda p: write_table(p, REVIEWS, simulated, ["clip_id"])})
    put(workspace, "select", {"selection.parquet": lambda p: write_table(p, SELECTION, selection, ["clip_id"])})
    return workspace


def _run(app: Any, place: Workspace, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--preset", "micro", "--workspace", str(place.root)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def _fill(path: Path, verdicts: dict[int, str]) -> None:
    rows = _rows(path)
    for row in rows:
        number = next(n for n in range(6) if clip_id(n) == row["clip_id"])
        if number in verdicts:
            row |= {"verdict": verdicts[number], "seconds_spent": "4"}
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_round_trip(app: Any, place: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "review.csv"
    assert "4 clips in" in _run(app, place, "review", "export", "--out", str(out))
    rows = _rows(out)
    assert [row["clip_id"] for row in rows][2:] == [clip_id(3), clip_id(2)]  # the sure ones last, 4 never
    assert {row["clip_id"]: row["current_verdict"] for row in rows}[clip_id(1)] == "keep (simulated)"
    _run(app, place, "review", "export", "--out", str(out))  # the same bytes again: nothing to refuse
    _fill(out, {0: "keep", 2: "drop"})
    assert "exists and may hold verdicts" in _run(app, place, "review", "export", "--out", str(out), code=2)
    assert "expected a person's name" in _run(app, place, "review", "import", str(out), code=4)
    assert read_reviews(place) == []
    said = _run(app, place, "review", "import", str(out), "--reviewer", "ana")
    assert "2 verdicts added, 0 were there already, 2 rows have no verdict yet" in said
    assert "0 verdicts added, 2 were there already" in _run(
        app, place, "review", "import", str(out), "--reviewer", "ana"
    )
    report = json.loads(_run(app, place, "review", "status", "--json"))
    assert (report["rows"], report["seconds"], report["sec_per_stage_two_clip"]) == (2, 8.0, 8.0)
    assert report["times_less_work"] == 2.0
    assert "2 verdicts by ana in 8 s" in _run(app, place, "review", "status")
    assert "2 clips in" in _run(app, place, "review", "export", "--out", str(tmp_path / "b.csv"))
    assert "4 clips in" in _run(app, place, "review", "export", "--reviewed", "--out", str(tmp_path / "c.csv"))


def test_limit_split_and_a_random_order(app: Any, place: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    _run(app, place, "review", "export", "--out", str(out), "--split", "test")
    assert [row["clip_id"] for row in _rows(out)] == [clip_id(5)]
    _run(app, place, "review", "export", "--out", str(out), "--order", "random", "--limit", "3", "--force")
    assert [row["clip_id"] for row in _rows(out)] == sorted(clip_id(n) for n in range(4))[:3]


def test_options_before_the_sub_command_are_not_swallowed(app: Any) -> None:
    result = CliRunner().invoke(app, ["review", "--preset", "micro", "status"])
    assert result.exit_code == 2
    assert "options of `soundstage review status` stand behind `status`" in result.output


def test_review_alone_is_the_stage(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr("soundstage.front.run_current", lambda stage, tree, place, fresh: seen.append((stage, fresh)))
    _run(app, Workspace.open(tmp_path), "review", "--fresh")
    assert seen == [("review", True)]


def test_without_clips_the_stage_to_run_is_named(app: Any, tmp_path: Path) -> None:
    for command in ("export", "status"):
        assert "run `soundstage split` first" in _run(app, Workspace.open(tmp_path), "review", command, code=4)

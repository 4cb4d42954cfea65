import json
from pathlib import Path
from typing import Any

import pytest

from soundstage.config.slices import SelectSlice
from soundstage.config.tree import SelectConfig, WindowConfig
from soundstage.curation import select
from soundstage.curation.rules import REASONS
from soundstage.data.records import CLIPS, REVIEWS, SELECTION, SIGNALS, read_table, write_table
from soundstage.errors import DataError
from soundstage.stages import StageRecord, Workspace, execute
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row

CONFIG = SelectSlice(select=SelectConfig(), window=WindowConfig())
NO_OFFSET = {"av_offset_sec": None, "av_correlation": None, "av_confidence": None}


def _decide(
    signals: dict[str, Any] | None = None,
    clip: dict[str, Any] | None = None,
    verdict: str = "",
    config: SelectSlice = CONFIG,
) -> tuple[str, str, float]:
    verdicts = {clip_id(0): review_row(0, verdict)} if verdict else {}
    rows = select.decide(
        [clip_row(0, **(clip or {}))], {clip_id(0): signals_row(0, **(signals or {}))}, verdicts, config
    )
    return rows[0]["use"], rows[0]["reasons"], rows[0]["audio_shift_sec"]


@pytest.mark.parametrize(
    ("signals", "clip", "verdict", "reason"),
    [
        ({"loudness_dbfs": -60.0}, {}, "", "silent"),
        ({"silence_share": 0.99}, {}, "", "silent"),
        ({"black_share": 0.6}, {}, "", "black"),
        ({"still_share": 0.99}, {}, "", "still"),
        ({"motion_peak": 0.01}, {}, "", "still"),
        ({"cuts": 1}, {}, "", "cut"),
        ({"av_correlation": 0.1}, {}, "", "unsynced"),
        ({"av_offset_sec": 0.6, "av_confidence": 1.1}, {}, "", "unsynced"),
        ({"av_offset_sec": 0.6, "av_correlation": 0.4}, {}, "", "unsynced"),
        (NO_OFFSET, {}, "", "unmeasured"),
        ({}, {"duration_us": 1_999_999}, "", "too_short_for_window"),
        ({"av_offset_sec": 0.6}, {"duration_us": 2_500_000}, "", "too_short_for_window"),
        ({}, {}, "drop", "rejected_by_reviewer"),
        ({}, {"split": "judge"}, "keep", "judge_split"),
        ({"cuts": 1, "silence_share": 1.0} | NO_OFFSET, {}, "", "silent,cut"),
    ],
)
def test_each_reason_drops(signals: dict[str, Any], clip: dict[str, Any], verdict: str, reason: str) -> None:
    assert _decide(signals, clip, verdict) == ("dropped", reason, 0.0)


def test_every_reason_is_reached_above() -> None:
    (table,) = (mark.args[1] for mark in test_each_reason_drops.pytestmark)  # type: ignore[attr-defined]
    assert {reason for *_, reasons in table for reason in reasons.split(",")} == set(REASONS)


@pytest.mark.parametrize("offset_sec", [-0.13, 0.0, 0.2])
def test_a_small_offset_is_left(offset_sec: float) -> None:
    assert _decide({"av_offset_sec": offset_sec}) == ("pretrain", "", 0.0)


@pytest.mark.parametrize("offset_sec", [0.5, -0.5])
def test_a_confident_offset_is_corrected_by_its_opposite(offset_sec: float) -> None:
    assert _decide({"av_offset_sec": offset_sec}) == ("pretrain", "", -offset_sec)


def test_a_clip_of_exactly_one_window_fits() -> None:
    assert _decide(clip={"duration_us": 2_000_000})[0] == "pretrain"
    assert _decide({"av_offset_sec": 0.5}, {"duration_us": 2_500_000})[0] == "pretrain"


def test_a_keep_sends_to_stage_two_and_overrides_estimates_only() -> None:
    assert _decide(verdict="keep") == ("finetune", "", 0.0)
    assert _decide({"av_correlation": 0.0}, verdict="keep") == ("finetune", "", 0.0)
    assert _decide({"av_offset_sec": 0.9}, verdict="keep") == ("finetune", "", 0.0)
    assert _decide(NO_OFFSET, verdict="keep")[0] == "finetune"
    assert _decide({"cuts": 1}, verdict="keep") == ("dropped", "cut", 0.0)
    assert _decide(clip={"split": "test"}, verdict="keep")[0] == "test"


def test_stage_two_takes_people_first_when_it_is_full() -> None:
    config = SelectSlice(select=SelectConfig(max_finetune_clips=2), window=WindowConfig())
    numbers = range(6)
    verdicts = {clip_id(n): review_row(n, reviewer="ana" if n in (4, 5) else "simulated") for n in numbers}
    signals = {clip_id(n): signals_row(n, cuts=int(n == 5)) for n in numbers}
    rows = select.decide([clip_row(n) for n in numbers], signals, verdicts, config)
    chosen = {row["clip_id"] for row in rows if row["use"] == "finetune"}
    assert clip_id(4) in chosen
    assert clip_id(5) not in chosen
    assert len(chosen) == 2


def _run(workspace: Workspace, clips: list[dict[str, Any]], signals: list[dict[str, Any]]) -> StageRecord:
    inputs = {
        "clips": put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, clips, ["clip_id"])}),
        "signals": put(
            workspace, "score", {"signals.parquet": lambda p: write_table(p, SIGNALS, signals, ["clip_id"])}
        ),
        "review": put(workspace, "review", {"reviews.parquet": lambda p: write_table(p, REVIEWS, [], ["clip_id"])}),
    }
    return execute("select", select.run, CONFIG, inputs, workspace, code_version="t", cacheable=False).record


def test_the_funnel_accounts_for_every_clip(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    splits = ["pretrain", "pretrain", "validation", "test", "judge", "pretrain", "pretrain"]
    clips = [clip_row(n, split=split) for n, split in enumerate(splits)]
    changes: dict[int, dict[str, Any]] = {0: {"cuts": 1, "black_share": 0.9}, 1: {"av_offset_sec": 0.5}, 3: NO_OFFSET}
    record = _run(workspace, clips, [signals_row(n, **changes.get(n, {})) for n in range(7)])
    funnel = json.loads(workspace.output(record, "funnel.json").read_text())
    assert funnel["dropped"] == {
        "black": {"count": 1, "examples": [clip_id(0)]},
        "judge_split": {"count": 1, "examples": [clip_id(4)]},
        "unmeasured": {"count": 1, "examples": [clip_id(3)]},
    }
    assert funnel["clips"] == 7 == sum(funnel["kept"].values()) + sum(d["count"] for d in funnel["dropped"].values())
    assert funnel["corrected"] == record.counts["corrected"] == 1
    rows = read_table(workspace.output(record, "selection.parquet"), SELECTION)
    assert {row["clip_id"] for row in rows} == {clip["clip_id"] for clip in clips}
    assert record.counts["dropped"] == 3
    assert record.counts["kept_pretrain"] == 3


def test_nothing_left_to_train_on_stops_with_the_funnel(tmp_path: Path) -> None:
    clips = [clip_row(0), clip_row(1, split="test")]
    with pytest.raises(DataError, match=r"no clip is left for stage one .* 2 clips; dropped: cut 1; kept: .*test 1"):
        _run(Workspace.open(tmp_path), clips, [signals_row(0, cuts=3), signals_row(1)])


def test_a_clip_without_signals_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"clip {clip_id(1)} has no row in signals.parquet"):
        _run(Workspace.open(tmp_path), [clip_row(0), clip_row(1)], [signals_row(0)])

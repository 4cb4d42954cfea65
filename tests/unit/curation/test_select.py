import json
import math
from pathlib import Path
from typing import Any

import pytest

from soundstage.config.slices import SelectSlice
from soundstage.config.tree import SelectConfig, WindowConfig
from soundstage.curation import select
from soundstage.curation.rules import MEANINGS, REASONS
from soundstage.data.records import CLIPS, REVIEWS, SELECTION, SIGNALS, read_table, write_table
from soundstage.errors import DataError
from soundstage.stages import StageRecord, Workspace, execute
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row

CONFIG = SelectSlice(select=SelectConfig(), window=WindowConfig())
STRICT = SelectSlice(
    select=SelectConfig(
        max_pan_share=0.5,
        max_speech_share=0.5,
        min_sharpness=10.0,
        max_letterbox_share=0.5,
        min_image_audio_cosine=0.2,
        min_image_text_cosine=0.2,
        min_audio_text_cosine=0.2,
        min_synchronisability=0.5,
    ),
    window=WindowConfig(),
)
NO_OFFSET = {"av_offset_sec": None, "av_correlation": None, "av_confidence": None}


def _learned(score: float | None, match: float = 2.0, offset_sec: float = 0.0) -> dict[str, Any]:
    """What a certain curator says of a clip; nothing when the score is None."""
    said = {"sync_score": score, "sync_match": match, "sync_offset_sec": offset_sec}
    return {} if score is None else {**said, "sync_confidence": 0.9, "synchronisability": 0.9}


PERIODIC = _learned(3.0) | {"sync_confidence": 0.25, "synchronisability": 0.2}


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
        ({"cuts_learned": 1}, {}, "", "cut"),
        ({"pan_share": 0.6}, {}, "", "panned"),
        ({"speech_share": 0.6}, {}, "keep", "speech"),
        ({"sharpness": 9.0}, {}, "", "blurred"),
        ({"letterbox_share": 0.6}, {}, "shift", "letterboxed"),
        ({"image_audio_cosine": 0.1}, {}, "", "mismatched"),
        ({"image_text_cosine": -0.1}, {}, "", "mismatched"),
        ({"audio_text_cosine": 0.0}, {}, "", "mismatched"),
        ({"av_correlation": 0.1, "audio_text_cosine": 0.0}, {}, "", "unsynced,mismatched"),
        ({}, {"duplicate_of": clip_id(9)}, "", "near_duplicate"),
        ({}, {"duplicate_of": clip_id(9)}, "keep", "near_duplicate"),
        ({}, {"duplicate_of": clip_id(9), "split": "test"}, "", "near_duplicate"),
        ({"cuts": 1}, {"duplicate_of": clip_id(9)}, "shift", "near_duplicate,cut"),
        ({"av_correlation": 0.1}, {}, "", "unsynced"),
        ({"av_offset_sec": 0.6, "av_confidence": 1.1}, {}, "", "unsynced"),
        ({"av_offset_sec": 0.6, "av_correlation": 0.4}, {}, "", "unsynced"),
        (NO_OFFSET, {}, "", "unmeasured"),
        (PERIODIC, {}, "", "not_synchronisable"),
        ({}, {"duration_us": 1_999_999}, "", "too_short_for_window"),
        ({"av_offset_sec": 0.6}, {"duration_us": 2_500_000}, "", "too_short_for_window"),
        ({}, {}, "drop", "rejected_by_reviewer"),
        ({}, {"split": "judge"}, "keep", "judge_split"),
        ({"cuts": 1, "silence_share": 1.0} | NO_OFFSET, {}, "", "silent,cut"),
    ],
)
def test_each_reason_drops(signals: dict[str, Any], clip: dict[str, Any], verdict: str, reason: str) -> None:
    assert _decide(signals, clip, verdict, STRICT) == ("dropped", reason, 0.0)


def test_every_reason_is_reached() -> None:
    (table,) = (mark.args[1] for mark in test_each_reason_drops.pytestmark)  # type: ignore[attr-defined]
    reached = {reason for *_, reasons in table for reason in reasons.split(",")}
    assert reached | {"class_full"} == set(REASONS)  # class_full is about clips together: see below
    assert set(MEANINGS) == set(REASONS)


OPTIONAL = ("cuts_learned", "pan_share", "speech_share", "sharpness", "letterbox_share", "image_audio_cosine",
            "image_text_cosine", "audio_text_cosine")  # fmt: skip


def test_a_signal_that_was_not_measured_never_drops() -> None:
    assert _decide(dict.fromkeys(OPTIONAL), config=STRICT) == ("pretrain", "", 0.0)


def test_new_thresholds_are_off_unless_configured() -> None:
    worst = {"pan_share": 1.0, "speech_share": 1.0, "sharpness": 0.0, "letterbox_share": 1.0}
    cosines = dict.fromkeys(("image_audio_cosine", "image_text_cosine", "audio_text_cosine"), -1.0)
    assert _decide(worst | cosines) == ("pretrain", "", 0.0)


def test_a_shift_is_a_keep_with_the_offset_of_the_person() -> None:
    measured = {"av_offset_sec": 0.9, "av_correlation": 0.0, "audio_text_cosine": 0.0}
    assert _decide(measured, verdict="shift", config=STRICT) == ("finetune", "", 0.3)
    assert _decide(clip={"split": "validation"}, verdict="shift") == ("validation", "", 0.3)
    assert _decide(clip={"duration_us": 2_300_000}, verdict="shift") == ("finetune", "", 0.3)
    assert _decide(clip={"duration_us": 2_299_999}, verdict="shift") == ("dropped", "too_short_for_window", 0.0)


def _balanced(labels: str, correlations: list[float], verdicts: dict[str, Any] | None = None, **options: Any) -> str:
    """Uses of one clip a letter of `labels`, its class; `p`retrain, `f`inetune, `t`est (upper-case label), `-`."""
    clips = [
        clip_row(n, label=label.lower().strip(), split="test" if label.isupper() else "pretrain")
        for n, label in enumerate(labels)
    ]
    signals = {clip_id(n): signals_row(n, av_correlation=value) for n, value in enumerate(correlations)}
    config = SelectSlice(select=SelectConfig(**options), window=WindowConfig())
    rows = select.decide(clips, signals, verdicts or {}, config)
    assert all((row["use"] == "dropped") == (row["reasons"] == "class_full") for row in rows)
    return "".join("-" if row["use"] == "dropped" else row["use"][0] for row in rows)


FIVE_AND_TWO = "aaaaabb", [0.6, 0.9, 0.7, 0.8, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("options", "uses"),
    [
        ({}, "ppppppp"),
        ({"max_per_class": 3}, "-ppp-pp"),
        ({"max_per_class": 1}, "-p---p-"),
        ({"max_class_ratio": 1.0}, "-ppp-pp"),  # the median of 5 and 2 is 3.5: three each
        ({"max_class_ratio": 0.1}, "-p---p-"),  # never under one
        ({"max_class_ratio": 1.0, "max_per_class": 2}, "-p-p-pp"),
        ({"max_class_ratio": 0.3, "max_per_class": 4}, "-p---p-"),
    ],
    ids=str,
)
def test_a_full_class_keeps_its_best(options: dict[str, Any], uses: str) -> None:
    assert _balanced(*FIVE_AND_TWO, **options) == uses


def test_only_stage_one_is_balanced() -> None:
    verdicts = {clip_id(0): review_row(0, "keep")}
    assert _balanced("aaaAAA", [0.3, 0.8, 0.9, 0.8, 0.8, 0.8], verdicts, max_per_class=1) == "f-pttt"
    assert _balanced("   a", [0.8] * 4, max_per_class=1) == "pppp"  # without a label there is no class


def test_the_learned_score_orders_and_weighs_when_there() -> None:
    clips = [clip_row(n) for n in range(3)]
    scores = {0: (2.0, 9.0, 0.0), 1: (-1.0, 3.0, 0.5), 2: (1.0, 9.0, 0.0)}
    signals = {
        clip_id(n): signals_row(n, **_learned(score, match, offset)) for n, (score, match, offset) in scores.items()
    }
    kept = [
        row["clip_id"] for row in select.decide(clips, signals, {}, _slice(max_per_class=2)) if row["use"] == "pretrain"
    ]
    # The corrected clip 1 counts by its best offset, the others as they are.
    assert kept == [clip_id(0), clip_id(1)]
    rows = select.decide(
        [*clips, clip_row(3, split="test")], signals | {clip_id(3): signals_row(3)}, {}, _slice("sync")
    )
    beliefs = [1 / (1 + math.exp(-x)) for x in (2.0, 3.0, 1.0)]
    mean = sum(beliefs) / 3
    assert [row["weight"] for row in rows] == pytest.approx([*(p / mean for p in beliefs), 1.0], rel=1e-12)
    assert {row["weight"] for row in select.decide(clips, signals, {}, _slice())} == {1.0}


def test_weights_keep_their_mean_and_their_bounds() -> None:
    odds = [-800.0, 800.0, None, 0.0]
    clips = [clip_row(n) for n in range(4)]
    signals = {clip_id(n): signals_row(n, **_learned(value)) for n, value in enumerate(odds)}
    weights = [row["weight"] for row in select.decide(clips, signals, {}, _slice("sync", min_sync_score=-1e3))]
    assert sum(weights) == pytest.approx(4.0, rel=1e-12)
    assert weights[2] == pytest.approx(1.0, rel=1e-12)
    assert weights[0] == pytest.approx(0.01 / (1.51 / 3), rel=1e-12)


def test_weights_by_synchrony_need_a_score() -> None:
    with pytest.raises(DataError, match=r"select.weighting=sync needs the learned scorer"):
        select.decide([clip_row(0)], {clip_id(0): signals_row(0)}, {}, _slice("sync"))


def _slice(weighting: str = "none", **options: Any) -> SelectSlice:
    return SelectSlice(select=SelectConfig(weighting=weighting, **options), window=WindowConfig())


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
    assert funnel["per_class"] == {
        "drum": {"black": 1, "judge_split": 1, "pretrain": 3, "unmeasured": 1, "validation": 1},
    }
    spread = json.loads(workspace.output(record, "distributions.json").read_text())
    assert all(sum(item["kept"]) + sum(item["dropped"]) + item["null"] == 7 for item in spread.values())
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

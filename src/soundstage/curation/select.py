"""Select: signals and verdicts become one decision a clip. It may drop, correct an offset, or route to stage two.

How a verdict and the signals meet:
- `drop` always drops.
- `keep` overrides what is an estimate (`unsynced`, `unmeasured`, an offset correction): the person saw and heard the
  clip as it is. It never overrides a technical reason (silent, black, still, cut, too short): such a clip harms
  training whoever likes it, and a slip of the hand must not let it in.
- a kept clip of the split `pretrain` is used by stage two; clips of other splits stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.slices import SelectSlice
from ..data.records import CLIPS, REVIEWS, SELECTION, SIGNALS, USES, read_table, write_table
from ..errors import DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import write_json
from .review import is_human, latest_verdicts
from .rules import REASONS, Reason, Sync, holds_window, judge_sync, technical_reasons

_EXAMPLES = 5

Row = Mapping[str, Any]


def run(config: SelectSlice, inputs: Inputs, work: Work) -> Outcome:
    """Write `selection.parquet` (every clip has a row) and `funnel.json`.

    Raises:
        DataError: a clip has no signals, or no clip is left for stage one; the message holds the funnel.
    """
    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    signals = read_table(work.workspace.output(inputs["signals"], "signals.parquet"), SIGNALS)
    verdicts = latest_verdicts(read_table(work.workspace.output(inputs["review"], "reviews.parquet"), REVIEWS))
    rows = decide(clips, {row["clip_id"]: row for row in signals}, verdicts, config)
    funnel = make_funnel(rows)
    write_table(work.out / "selection.parquet", SELECTION, rows, sort_by=["clip_id"])
    write_json(work.out / "funnel.json", funnel)
    if not funnel["kept"]["pretrain"]:
        raise DataError(
            f"no clip is left for stage one (use `pretrain`): {describe(funnel)}; relax the thresholds of `select`, "
            "add sources, or lower the shares of `split`"
        )
    return Outcome(counts=_counts(funnel))


def decide(
    clips: Sequence[Row], signals: Mapping[str, Row], verdicts: Mapping[str, Row], config: SelectSlice
) -> list[dict[str, Any]]:
    """One row of SELECTION for each clip, in the order given.

    Raises:
        DataError: a clip without signals.
    """
    judged: list[tuple[Row, list[Reason], float]] = []
    for clip in clips:
        clip_id = clip["clip_id"]
        if clip_id not in signals:
            raise DataError(f"clip {clip_id} has no row in signals.parquet; rerun `soundstage score`")
        verdict = verdicts[clip_id]["verdict"] if clip_id in verdicts else ""
        judged.append((clip, *_judge(clip, signals[clip_id], verdict, config)))
    passed = [clip for clip, reasons, _ in judged if not reasons]
    to_stage_two = _finetune_ids(passed, verdicts, config.select.max_finetune_clips)
    return [
        {
            "clip_id": clip["clip_id"],
            "use": "dropped" if reasons else "finetune" if clip["clip_id"] in to_stage_two else clip["split"],
            "reasons": ",".join(reasons),
            "weight": 1.0,
            "audio_shift_sec": 0.0 if reasons else shift,
        }
        for clip, reasons, shift in judged
    ]


def _finetune_ids(clips: Sequence[Row], verdicts: Mapping[str, Row], limit: int) -> set[str]:
    """Kept clips of the pretraining split: people's verdicts first when there are more than `limit`."""
    kept = [
        (not is_human(verdicts[clip["clip_id"]]), clip["clip_id"])
        for clip in clips
        if clip["split"] == "pretrain"
        and clip["clip_id"] in verdicts
        and verdicts[clip["clip_id"]]["verdict"] == "keep"
    ]
    return {clip_id for _, clip_id in sorted(kept)[:limit]}


def _judge(clip: Row, signals: Row, verdict: str, config: SelectSlice) -> tuple[list[Reason], float]:
    """Reasons to drop the clip, the first being the one it is counted under, and its offset correction."""
    if clip["split"] == "judge":
        return ["judge_split"], 0.0
    window_sec = config.window.duration_sec
    reasons = technical_reasons(signals, config.select)
    sync = Sync()
    # Without sound or picture an offset means nothing, so one reason is enough.
    if not reasons and verdict == "":
        sync = judge_sync(signals, config.select)
    if not holds_window(clip, window_sec, sync.audio_shift_sec):
        reasons.append("too_short_for_window")
    if verdict == "drop":
        reasons.append("rejected_by_reviewer")
    if sync.reason:
        reasons.append(sync.reason)
    return reasons, sync.audio_shift_sec


def make_funnel(rows: Sequence[Row]) -> dict[str, Any]:
    """{"clips", "dropped": {reason: {"count", "examples"}}, "kept": {use: count}, "corrected"}.

    A clip with several reasons is counted under its first, so that clips = dropped + kept.
    """
    dropped: dict[str, list[str]] = {reason: [] for reason in REASONS}
    for row in rows:
        if row["use"] == "dropped":
            dropped[row["reasons"].split(",")[0]].append(row["clip_id"])
    uses = Counter(row["use"] for row in rows)
    kept = {use: uses[use] for use in USES if use != "dropped"}
    assert len(rows) == sum(len(found) for found in dropped.values()) + sum(kept.values()), "a clip was lost"
    return {
        "clips": len(rows),
        "dropped": {
            reason: {"count": len(found), "examples": sorted(found)[:_EXAMPLES]}
            for reason, found in dropped.items()
            if found
        },
        "kept": kept,
        "corrected": sum(row["audio_shift_sec"] != 0 for row in rows),
    }


def describe(funnel: Mapping[str, Any]) -> str:
    """The funnel in one line."""
    dropped = ", ".join(f"{reason} {item['count']}" for reason, item in funnel["dropped"].items()) or "none"
    kept = ", ".join(f"{use} {count}" for use, count in funnel["kept"].items())
    return f"{funnel['clips']} clips; dropped: {dropped}; kept: {kept}"


def _counts(funnel: Mapping[str, Any]) -> dict[str, int]:
    dropped = {f"dropped_{reason}": item["count"] for reason, item in funnel["dropped"].items()}
    return {
        "clips": funnel["clips"],
        "dropped": sum(dropped.values()),
        **dropped,
        **{f"kept_{use}": count for use, count in funnel["kept"].items()},
        "corrected": funnel["corrected"],
    }

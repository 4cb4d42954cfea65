"""Select: signals and verdicts become one decision a clip. It may drop, correct an offset, or route to stage two.

How a verdict and the signals meet:
- `drop` always drops.
- `keep` overrides what is an estimate (`unsynced`, `unmeasured`, `mismatched`, an offset correction): the person saw
  and heard the clip as it is. `shift` is a keep with the offset correction that the person stated.
- Neither overrides a technical reason (silent, black, still, cut, too short, ...) nor `near_duplicate`: such a clip
  harms training whoever likes it, and a slip of the hand must not let it in.
- a kept clip of the split `pretrain` is used by stage two; clips of other splits stay where they are.

Then stage one is balanced: a class with more clips than `max_per_class` or `max_class_ratio` allow keeps its best
(`balance.quality`), the rest is `class_full`. Clips of stage two, validation and test are never limited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.slices import SelectSlice
from ..data.records import CLIPS, REVIEWS, SELECTION, SIGNALS, read_table, write_table
from ..errors import DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import write_json, write_text
from . import funnel as numbers
from .balance import over_limit, sync_weights
from .review import KEEPS, is_human, latest_verdicts
from .rules import Reason, Sync, final_reasons, holds_window, judge_sync, semantic_reasons

FUNNEL_PAGE = "funnel.html"

Row = Mapping[str, Any]


def run(config: SelectSlice, inputs: Inputs, work: Work) -> Outcome:
    """Write `selection.parquet` (every clip has a row), `funnel.json`, `distributions.json` and `funnel.html`.

    Raises:
        DataError: a clip has no signals, or no clip is left for stage one; the message holds the funnel.
    """
    from .funnel_page import funnel_page

    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    table = read_table(work.workspace.output(inputs["signals"], "signals.parquet"), SIGNALS)
    signals = {row["clip_id"]: row for row in table}
    verdicts = latest_verdicts(read_table(work.workspace.output(inputs["review"], "reviews.parquet"), REVIEWS))
    rows = decide(clips, signals, verdicts, config)
    by_id = {clip["clip_id"]: clip for clip in clips}
    funnel = numbers.make_funnel(rows, by_id)
    if not funnel["kept"]["pretrain"]:
        raise DataError(
            f"no clip is left for stage one (use `pretrain`): {numbers.describe(funnel)}; relax the thresholds of "
            "`select`, add sources, or lower the shares of `split`"
        )
    spread = numbers.distributions(rows, signals, config.select)
    write_table(work.out / "selection.parquet", SELECTION, rows, sort_by=["clip_id"])
    write_json(work.out / "funnel.json", funnel)
    write_json(work.out / "distributions.json", spread)
    page = funnel_page(rows, by_id, signals, funnel, spread, work.workspace, config.select.examples_per_reason)
    write_text(work.out / FUNNEL_PAGE, page)
    return Outcome(counts=numbers.counts(funnel))


@dataclass(frozen=True)
class _Judged:
    clip: Row
    signals: Row
    reasons: list[Reason]
    """the first is the one it is counted under"""
    audio_shift_sec: float

    @property
    def name(self) -> str:
        return str(self.clip["clip_id"])

    @property
    def parts(self) -> tuple[Row, Row, float]:
        return self.clip, self.signals, self.audio_shift_sec


def decide(
    clips: Sequence[Row], signals: Mapping[str, Row], verdicts: Mapping[str, Row], config: SelectSlice
) -> list[dict[str, Any]]:
    """One row of SELECTION for each clip, in the order given.

    Raises:
        DataError: a clip without signals; weights by synchrony without a learned score.
    """
    judged = [_judge(clip, _signals_of(clip, signals), verdicts.get(clip["clip_id"]), config) for clip in clips]
    passed = [item for item in judged if not item.reasons]
    to_stage_two = _finetune_ids([item.clip for item in passed], verdicts, config.select.max_finetune_clips)
    stage_one = [item for item in passed if item.clip["split"] == "pretrain" and item.name not in to_stage_two]
    full = over_limit([item.parts for item in stage_one], config.select)
    stage_one = [item for item in stage_one if item.name not in full]
    weights: Mapping[str, float] = {}
    if config.select.weighting == "sync" and stage_one:
        weights = sync_weights([item.parts for item in stage_one])
    rows = []
    for item in judged:
        reasons = ["class_full"] if item.name in full else item.reasons
        use = "finetune" if item.name in to_stage_two else item.clip["split"]
        rows.append(
            {
                "clip_id": item.name,
                "use": "dropped" if reasons else use,
                "reasons": ",".join(reasons),
                "weight": weights.get(item.name, 1.0),
                "audio_shift_sec": 0.0 if reasons else item.audio_shift_sec,
            }
        )
    return rows


def _signals_of(clip: Row, signals: Mapping[str, Row]) -> Row:
    if clip["clip_id"] not in signals:
        raise DataError(f"clip {clip['clip_id']} has no row in signals.parquet; rerun `soundstage score`")
    return signals[clip["clip_id"]]


def _finetune_ids(clips: Sequence[Row], verdicts: Mapping[str, Row], limit: int) -> set[str]:
    """Kept clips of the pretraining split: people's verdicts first when there are more than `limit`."""
    kept = [
        (not is_human(verdicts[clip["clip_id"]]), clip["clip_id"])
        for clip in clips
        if clip["split"] == "pretrain" and clip["clip_id"] in verdicts and verdicts[clip["clip_id"]]["verdict"] in KEEPS
    ]
    return {clip_id for _, clip_id in sorted(kept)[:limit]}


def _judge(clip: Row, signals: Row, review: Row | None, config: SelectSlice) -> _Judged:
    if clip["split"] == "judge":
        return _Judged(clip, signals, ["judge_split"], 0.0)
    verdict = review["verdict"] if review else ""
    reasons = final_reasons(clip, signals, config.select)
    sync, semantic = Sync(), list[Reason]()
    if review and verdict == "shift":
        sync = Sync(audio_shift_sec=float(review["audio_shift_sec"]))
    # Without sound or picture an offset means nothing, so one reason is enough.
    elif not reasons and verdict == "":
        sync, semantic = judge_sync(signals, config.select), semantic_reasons(signals, config.select)
    if not holds_window(clip, config.window.duration_sec, sync.audio_shift_sec):
        reasons.append("too_short_for_window")
    if verdict == "drop":
        reasons.append("rejected_by_reviewer")
    if sync.reason:
        reasons.append(sync.reason)
    return _Judged(clip, signals, [*reasons, *semantic], sync.audio_shift_sec)

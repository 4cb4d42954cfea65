"""What people decided and how long it took them, beside what was gained: the small manual set in figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.records import VERDICTS
from .review import KEEPS, effort, is_human, latest_verdicts

Row = Mapping[str, Any]


def effort_report(
    reviews: Sequence[Row], clips: Sequence[Row], selection: Sequence[Row] | None = None
) -> dict[str, Any]:
    """Verdicts and seconds of people, in all and per class, and seconds per clip gained when there is a selection.

    - `verdicts`: clips by the verdict that counts; `of_unknown_clips`: rows about clips that are gone.
    - `per_class`: for clips of the pretraining split {label: {"clips", "reviewed", "keep", "drop", "shift"}}.
    - `sec_per_verdict`, `sec_per_stage_two_clip` (clips that a person kept for stage two), `sec_per_stage_one_clip`
      (clips that stage one is trained on): all seconds of people over such clips; None when there are none.
    - `times_less_work`: clips of both stages over clips that people looked at. At the same pace a person who had to
      look at each training clip would have needed this many times the seconds.
    """
    by_id = {clip["clip_id"]: clip for clip in clips}
    people = [row for row in reviews if is_human(row)]
    latest = {name: row for name, row in latest_verdicts(people).items() if name in by_id}
    seconds = effort(people)
    verdicts = Counter(row["verdict"] for row in latest.values())
    return {
        "rows": len(people),
        "reviewers": sorted({row["reviewer"] for row in people}),
        "seconds": seconds,
        "of_unknown_clips": sum(row["clip_id"] not in by_id for row in people),
        "clips_reviewed": len(latest),
        "verdicts": {name: verdicts[name] for name in VERDICTS},
        "sec_per_verdict": _ratio(seconds, len(people)),
        "per_class": _per_class(clips, latest),
        **(_gain(seconds, latest, selection) if selection is not None else {}),
    }


def describe_effort(report: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    verdicts = ", ".join(f"{name} {count}" for name, count in report["verdicts"].items())
    lines = [
        f"{report['rows']} verdicts by {', '.join(report['reviewers']) or 'nobody'} in {report['seconds']:.0f} s, "
        f"{_seconds(report['sec_per_verdict'])} each; {report['of_unknown_clips']} of clips that are gone",
        f"{report['clips_reviewed']} clips: {verdicts}",
    ]
    if "stage_one_clips" in report:
        less, by_people = report["times_less_work"], report["stage_two_clips_by_people"]
        lines += [
            f"stage two: {report['stage_two_clips']} clips, {by_people} of them kept by people in "
            f"{_seconds(report['sec_per_stage_two_clip'])} each",
            f"stage one: {report['stage_one_clips']} clips in {_seconds(report['sec_per_stage_one_clip'])} each",
            f"work against looking at every training clip: {'unknown' if less is None else f'{less:.1f} times less'}",
        ]
    else:
        lines.append("no selection yet: run `soundstage select` for the cost of a clip")
    width = max((len(label) for label in report["per_class"]), default=0)
    for label, row in report["per_class"].items():
        lines.append(f"  {label:{width}}  " + "  ".join(f"{name} {count}" for name, count in row.items()))
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "no seconds known" if value is None else f"{value:.2f} s"


def _per_class(clips: Sequence[Row], latest: Mapping[str, Row]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        if clip["split"] == "pretrain":
            found[clip["label"]]["clips"] += 1
            if clip["clip_id"] in latest:
                found[clip["label"]].update(("reviewed", latest[clip["clip_id"]]["verdict"]))
    names = ("clips", "reviewed", *VERDICTS)
    return {label: {name: counter[name] for name in names} for label, counter in sorted(found.items())}


def _gain(seconds: float, latest: Mapping[str, Row], selection: Sequence[Row]) -> dict[str, Any]:
    stage_one = sum(row["use"] == "pretrain" for row in selection)
    stage_two = [row["clip_id"] for row in selection if row["use"] == "finetune"]
    by_people = sum(name in latest and latest[name]["verdict"] in KEEPS for name in stage_two)
    return {
        "stage_one_clips": stage_one,
        "stage_two_clips": len(stage_two),
        "stage_two_clips_by_people": by_people,
        "sec_per_stage_two_clip": _ratio(seconds, by_people),
        "sec_per_stage_one_clip": _ratio(seconds, stage_one if latest else 0),
        "times_less_work": _ratio(stage_one + len(stage_two), len(latest)),
    }


def _ratio(value: float, count: int) -> float | None:
    return value / count if count else None

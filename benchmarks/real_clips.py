"""Curation on real clips: the original against shifted copies of itself, and the decision on every clip.

Takes a folder of videos with a `manifest.csv` (columns `file` and `quality_notes`); clips whose notes call them clean,
good or excellent sync are shifted by +-0.3 and +-0.6 s. One fixed tolerance, that of selection, holds for all: a copy's
score is its best correlation of onsets and motion within it. Then the folder goes through ingest to select at default
thresholds, and the decision on every clip is listed. Only figures leave this script.

    python benchmarks/real_clips.py --clips FOLDER --workspace DIR [--scorer FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_environment

from soundstage.catalog import STAGES, run_stage
from soundstage.config import SoundstageConfig, load_config
from soundstage.curation import signals
from soundstage.curation.scorer.measure import shifted
from soundstage.data.records import CLIPS, REJECTS, SELECTION, SIGNALS, read_table
from soundstage.media.decode import DecodedClip, decode_clip
from soundstage.models.sync import SyncScorer, load_scorer
from soundstage.stages import StageRecord, Workspace

SHIFTS_SEC = (0.3, -0.3, 0.6, -0.6)
CALLED_GOOD = re.compile(r"\b(clean|good|excellent) sync\b")
CURATION = ("ingest", "split", "curator", "score", "review", "select")


def curate(config: SoundstageConfig, workspace: Workspace) -> dict[str, StageRecord]:
    """Run the stages from ingest to select."""
    records: dict[str, StageRecord] = {}
    for name in CURATION:
        stage = STAGES[name]
        inputs = {key: records[source] for key, source in stage.inputs.items()}
        records[name] = run_stage(name, stage.slice_of(config), inputs, workspace).record
    return records


def decisions(records: dict[str, StageRecord], workspace: Workspace) -> list[dict[str, Any]]:
    """Use and reasons of every clip, and the reason of every reject, by source."""
    clips = read_table(workspace.output(records["split"], "clips.parquet"), CLIPS)
    chosen = {
        row["clip_id"]: row for row in read_table(workspace.output(records["select"], "selection.parquet"), SELECTION)
    }
    found = {row["clip_id"]: row for row in read_table(workspace.output(records["score"], "signals.parquet"), SIGNALS)}
    rejects = read_table(workspace.output(records["ingest"], "rejects.parquet"), REJECTS)
    rows = [
        {
            "file": clip["source_uri"],
            "start_sec": clip["start_us"] / 1e6,
            "decision": chosen[clip["clip_id"]]["reasons"] or chosen[clip["clip_id"]]["use"],
            "av_correlation": found[clip["clip_id"]]["av_correlation"],
            "av_offset_sec": found[clip["clip_id"]]["av_offset_sec"],
        }
        for clip in clips
    ]
    rows += [
        {"file": row["source_uri"], "start_sec": row["start_us"] / 1e6, "decision": f"reject: {row['reason']}"}
        for row in rejects
    ]
    return sorted(rows, key=lambda row: (row["file"], row["start_sec"]))


def correlation_near(clip: DecodedClip, config: SoundstageConfig) -> float:
    """Best correlation of onsets and motion within selection's tolerance; -1 where nothing varies."""
    fps, select = float(clip.fps), config.select
    envelope = signals.onset_envelope(clip.waveform, clip.sample_rate)
    lags = signals.lag_curve(signals.motion_curve(clip.frames), fps, envelope, config.score.max_offset_sec)
    latest = select.offset_tolerance_sec + select.motion_lead_sec
    return -1.0 if lags is None else lags.best_within(-select.offset_tolerance_sec, latest)


def learned_score(clip: DecodedClip, scorer: SyncScorer) -> float:
    """The scorer's log odds as placed; minus infinity where it says nothing."""
    estimate = scorer.estimate(clip.frames, float(clip.fps), clip.waveform)
    return -np.inf if estimate is None else estimate.sync_score


def compare_shifts(clip: DecodedClip, score: Any) -> dict[str, float]:
    """Score of the clip and of its shifted copies."""
    scores = {"0": score(clip)}
    for shift in SHIFTS_SEC:
        copy = DecodedClip(clip.frames, clip.fps, shifted(clip.waveform, shift, clip.sample_rate), clip.sample_rate)
        scores[f"{shift:+g}"] = score(copy)
    return scores


def wins(scores: dict[str, float]) -> int:
    """Over how many of its shifted copies the original stands."""
    return sum(scores["0"] > value for name, value in scores.items() if name != "0")


def print_pairs(name: str, results: dict[str, dict[str, float]]) -> dict[str, Any]:
    """List every pair; returns the totals."""
    print(f"\n{name}: score of the original and of its copies shifted by so many seconds")
    for file, scores in results.items():
        print(f"  {file:28s} " + "  ".join(f"{shift}: {value:6.3f}" for shift, value in scores.items()), end="")
        print(f"  wins {wins(scores)} of {len(SHIFTS_SEC)}")
    total, pairs = sum(map(wins, results.values())), len(results) * len(SHIFTS_SEC)
    least = min(map(wins, results.values()))
    print(f"  original wins {total} of {pairs} ({total / pairs:.0%}), at least {least} for each clip")
    return {"wins": total, "pairs": pairs, "least": least, "scores": results}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, help="folder of a trained sync scorer, compared too")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=c")
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    source = [f"ingest.source={str(arguments.clips.resolve())!r}", "select.min_sync_correlation=0.25"]
    # Every clip gets a decision: none is set aside for a judge.
    fixed = ["review.reviewer=none", "split.judge=0"]
    config = load_config("tiny", overrides=[*source, *fixed, *arguments.overrides])
    with (arguments.clips / "manifest.csv").open(encoding="utf-8", newline="") as file:
        notes = {row["file"]: row["quality_notes"] for row in csv.DictReader(file)}
    records = curate(config, workspace)
    listed = decisions(records, workspace)
    print("decisions at default thresholds:")
    for row in listed:
        print(f"  {row['file']:28s} {row['start_sec']:5.1f} s  {row['decision']:30s} {notes.get(row['file'], '')[:70]}")

    clips = {row["source_uri"]: row for row in read_table(workspace.output(records["split"], "clips.parquet"), CLIPS)}
    good = [name for name, text in notes.items() if CALLED_GOOD.search(text) and name in clips]
    decoded = {
        name: decode_clip(workspace.resolve(clips[name]["media_uri"]), config.score.frame_size, "gray") for name in good
    }
    report: dict[str, Any] = {"environment": describe_environment(), "decisions": listed}
    report["signal"] = print_pairs(
        "correlation of onsets and motion",
        {name: compare_shifts(clip, lambda item: correlation_near(item, config)) for name, clip in decoded.items()},
    )
    if arguments.scorer is not None:
        scorer, about = load_scorer(arguments.scorer)
        report["scorer"] = {"fingerprint": about["fingerprint"]} | print_pairs(
            "learned scorer, as placed",
            {name: compare_shifts(clip, lambda item: learned_score(item, scorer)) for name, clip in decoded.items()},
        )
    (workspace.root / "real_clips.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

from pathlib import Path

import numpy as np
import pytest

from soundstage.config.slices import ScoreSlice
from soundstage.config.tree import ScoreConfig
from soundstage.curation import score
from soundstage.data.records import CLIPS, SIGNALS, read_table, write_table
from soundstage.errors import DataError
from soundstage.media.encode import write_video
from soundstage.stages import StageRecord, Workspace, execute
from tests.unit.curation.makers import FPS, RATE, clicks, irregular, pulses
from tests.unit.curation.records import clip_id, clip_row, put

SECONDS = 4.0
EVENTS = irregular(SECONDS)


def _make(workspace: Workspace) -> StageRecord:
    """Clip 0 in sync, clip 1 silent, clip 2 frozen, clip 3 with a cut, clip 4 with its sound 0.4 s late."""
    moving = pulses(EVENTS, SECONDS)
    heard = clicks(EVENTS, SECONDS)
    half = len(moving) // 2
    made = [
        (moving, heard),
        (moving, np.zeros_like(heard)),
        (np.repeat(moving[:1], len(moving), axis=0), heard),
        (np.concatenate([moving[:half], pulses(EVENTS, SECONDS, seed=9)[half:]]), heard),
        (moving, clicks([t + 0.4 for t in EVENTS], SECONDS)),
    ]
    rows = [clip_row(number) for number in range(len(made))]
    for row, (frames, waveform) in zip(rows, made, strict=True):
        colour = np.repeat(frames[..., None], 3, axis=3)
        write_video(workspace.resolve(row["media_uri"]), colour, FPS, waveform, RATE)
    return put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, rows, ["clip_id"])})


def _run(workspace: Workspace, clips: StageRecord, workers: int) -> StageRecord:
    config = ScoreSlice(score=ScoreConfig(workers=workers))
    return execute("score", score.run, config, {"clips": clips}, workspace, code_version="t", cacheable=False).record


def test_planted_defects_show_in_the_signals_and_processes_change_nothing(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    record = _run(workspace, clips, workers=2)
    rows = {row["clip_id"]: row for row in read_table(workspace.output(record, "signals.parquet"), SIGNALS)}
    good, silent, frozen, cut, late = (rows[clip_id(number)] for number in range(5))
    assert (good["cuts"], good["black_share"], good["clipping_share"]) == (0, 0.0, 0.0)
    assert good["motion_peak"] > 0.1
    assert good["av_offset_sec"] == pytest.approx(0.0, abs=0.04)
    assert good["av_align"] > 0.6
    assert silent["loudness_dbfs"] < -100
    assert silent["silence_share"] == 1.0
    assert silent["av_correlation"] is None
    assert frozen["still_share"] > 0.95
    assert frozen["motion_peak"] < 0.01
    assert cut["cuts"] == 1
    assert late["av_offset_sec"] == pytest.approx(0.4, abs=0.04)
    assert record.counts == {
        "clips": 5,
        "signals": 5,
        "sync_measured": 5 - sum(r["av_correlation"] is None for r in rows.values()),
    }
    assert _run(workspace, clips, workers=1).content == record.content


@pytest.mark.parametrize("workers", [1, 2])
def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path, workers: int) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    workspace.resolve(clip_row(3)["media_uri"]).write_bytes(b"no video")
    with pytest.raises(DataError, match=f"clip {clip_id(3)} cannot be scored"):
        _run(workspace, clips, workers)


def test_a_clip_whose_media_changed_is_named(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    frames = np.zeros((10, 48, 48, 3), np.uint8)
    write_video(workspace.resolve(clip_row(1)["media_uri"]), frames, FPS, clicks([0.1], 0.4), RATE)
    with pytest.raises(DataError, match=rf"clip {clip_id(1)}: .* holds 10 frames, its record says 96"):
        _run(workspace, clips, 1)

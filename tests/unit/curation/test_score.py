import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.config.slices import ScoreSlice
from soundstage.config.tree import ScoreConfig
from soundstage.curation import score
from soundstage.data.records import CLIPS, SIGNALS, read_table, write_table
from soundstage.errors import ConfigError, DataError
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


def _run(workspace: Workspace, clips: StageRecord, workers: int, **changes: Any) -> StageRecord:
    # Without speech: every scoring process would import torch.
    config = ScoreSlice(score=ScoreConfig(**({"speech": False} | changes | {"workers": workers})))
    inputs = {"clips": clips, "curator": put(workspace, "curator", {})}
    return execute("score", score.run, config, inputs, workspace, code_version="t", cacheable=False).record


def test_planted_defects_show_in_the_signals_and_processes_change_nothing(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    record = _run(workspace, clips, workers=2)
    rows = {row["clip_id"]: row for row in read_table(workspace.output(record, "signals.parquet"), SIGNALS)}
    good, silent, frozen, cut, late = (rows[clip_id(number)] for number in range(5))
    assert (good["cuts"], good["black_share"], good["clipping_share"]) == (0, 0.0, 0.0)
    assert good["motion_peak"] > 0.1
    assert (good["pan_share"], good["letterbox_share"]) == (0.0, 0.0)
    assert good["sharpness"] > 0
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
        "sync_learned": 0,
    }
    nulls = [name for name in SIGNALS.names if all(row[name] is None for row in rows.values())]
    assert sorted(name for name in nulls if "sync" not in name) == sorted(record.notes["null_columns"].split(", "))
    assert _run(workspace, clips, workers=1).content == record.content


def test_a_clip_that_cannot_be_decoded_is_named_across_processes(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    workspace.resolve(clip_row(3)["media_uri"]).write_bytes(b"no video")
    with pytest.raises(DataError, match=f"clip {clip_id(3)} cannot be scored"):
        _run(workspace, clips, workers=2)


def test_a_clip_whose_media_changed_is_named(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    frames = np.zeros((10, 48, 48, 3), np.uint8)
    write_video(workspace.resolve(clip_row(1)["media_uri"]), frames, FPS, clicks([0.1], 0.4), RATE)
    with pytest.raises(DataError, match=rf"clip {clip_id(1)}: .* holds 10 frames, its record says 96"):
        _run(workspace, clips, 1)


def test_what_is_configured_is_measured_from_the_same_pass(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    row = clip_row(0, num_frames=2 * FPS, duration_us=2_000_000)
    first, second = (pulses([0.3, 0.8], 1.0, seed=seed) for seed in (1, 2))
    colour = np.repeat(np.concatenate([first, second])[..., None], 3, axis=3)
    write_video(workspace.resolve(row["media_uri"]), colour, FPS, clicks([0.3, 0.8], 2.0), RATE)
    clips = put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, [row], ["clip_id"])})
    plain, full = (_run(workspace, clips, 1, speech=on, learned_cuts=on, optical_flow=on) for on in (False, True))
    (less,), (more,) = (read_table(workspace.output(record, "signals.parquet"), SIGNALS) for record in (plain, full))
    added = {name: more[name] for name in SIGNALS.names if more[name] != less[name]}
    assert set(added) == {"speech_share", "cuts_learned", "optical_flow"}
    assert (added["speech_share"], added["cuts_learned"]) == (0.0, 1)
    assert 0 < added["optical_flow"] < 5
    assert full.notes["null_columns"] == "image_text_cosine, audio_text_cosine, image_audio_cosine"


def test_an_encoder_that_is_not_there_stops_before_any_clip_is_decoded(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    clips = _make(workspace)
    workspace.resolve(clip_row(0)["media_uri"]).unlink()
    with pytest.raises(ConfigError, match=r"score.audio_text_model='.*none' is neither a folder with a model"):
        _run(workspace, clips, 1, audio_text_model=str(tmp_path / "none"))


def test_results_keep_their_order_and_few_tasks_wait() -> None:
    """However long the manifest, only some chunks of it are in memory."""
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(1, 401):
            taken.append(task)
            yield task

    ahead, chunk = 3, 4
    with ThreadPoolExecutor(2) as pool:
        for count, result in enumerate(score.in_order(pool, lambda task: -task, tasks(), ahead), start=1):
            assert result == -count
            assert len(taken) <= count - 1 + ahead * chunk
    assert count == len(taken) == 400


def _die_at_nine(task: int) -> int:
    if task == 9:
        os._exit(3)
    return task


def test_a_process_that_dies_names_the_tasks_it_may_have_been_at() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        answers = score.in_order(pool, _die_at_nine, range(40), ahead=2)
        assert [next(answers) for _ in range(8)] == list(range(8))
        with pytest.raises(score.TasksLostError) as lost:
            next(answers)
    assert 9 in lost.value.tasks
    assert not set(lost.value.tasks) & set(range(8))

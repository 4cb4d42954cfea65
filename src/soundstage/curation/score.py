"""Score: every clip is decoded once, small and grey, and turned into one row of signals."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..config.slices import ScoreSlice
from ..config.tree import ScoreConfig
from ..data.records import CLIPS, SIGNALS, read_table, write_table
from ..errors import DataError
from ..media.decode import DecodedClip, decode_clip
from ..stages.execute import Inputs, Outcome, Work
from ..stages.progress import track
from . import signals
from .learned import Curator, choose_curator

SIGNAL_VERSION = "2"
"""Changes when a signal's meaning does: rows of two versions are never compared."""

_CHUNK = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    clip_id: str
    path: Path
    num_frames: int


def run(config: ScoreSlice, inputs: Inputs, work: Work) -> Outcome:
    """Write `signals.parquet`, one row for each clip of the split record.

    Raises:
        DataError: a clip cannot be decoded or has another number of frames than its record says; it is named.
    """
    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    tasks = [_Task(row["clip_id"], work.workspace.resolve(row["media_uri"]), row["num_frames"]) for row in clips]
    curator, said = choose_curator(inputs["curator"], work.workspace, config.score.min_scorer_auc)
    log.info("%s", said)
    rows = list(track(_score_all(tasks, config.score, curator), "score", total=len(tasks), unit="clip"))
    count = write_table(work.out / "signals.parquet", SIGNALS, rows, sort_by=["clip_id"])
    measured = sum(row["av_correlation"] is not None for row in rows)
    learned = sum(row["sync_score"] is not None for row in rows)
    return Outcome(
        counts={"clips": len(clips), "signals": count, "sync_measured": measured, "sync_learned": learned},
        notes={"curator": said},
    )


def _score_all(tasks: Sequence[_Task], config: ScoreConfig, curator: Curator | None) -> Iterator[dict[str, Any]]:
    """Rows in the order of `tasks`, whatever the number of processes."""
    score = partial(_score_one, config, curator)
    if config.workers == 1 or len(tasks) == 1:
        yield from map(score, tasks)
        return
    # Fresh interpreters: a fork of a process that already runs threads (torch, tracking) can deadlock.
    pool = ProcessPoolExecutor(min(config.workers, len(tasks)), mp_context=get_context("spawn"))
    try:
        yield from pool.map(score, tasks, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise DataError(
            "a scoring process died, most likely out of memory; set score.workers=1 to find the clip and use less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _score_one(config: ScoreConfig, curator: Curator | None, task: _Task) -> dict[str, Any]:
    try:
        clip = decode_clip(task.path, config.frame_size, "gray")
    except DataError as error:
        raise DataError(f"clip {task.clip_id} cannot be scored: {error}") from error
    if len(clip.frames) != task.num_frames:
        raise DataError(
            f"clip {task.clip_id}: {task.path} holds {len(clip.frames)} frames, its record says {task.num_frames}; "
            "the media file was changed: delete it and rerun `soundstage ingest`"
        )
    measured = measure(clip, config.max_offset_sec) | (curator.columns(clip) if curator else {})
    # Signals that nothing was configured for are null, and never a made-up number.
    return dict.fromkeys(SIGNALS.names) | {"clip_id": task.clip_id, "signal_version": SIGNAL_VERSION, **measured}


def measure(clip: DecodedClip, max_offset_sec: float) -> dict[str, float | int | None]:
    """All signals of one grey clip by column name (units in `data.records.SIGNALS`); None where one has no meaning."""
    fps = float(clip.fps)
    duration_sec = len(clip.frames) / fps
    curve = signals.motion_curve(clip.frames)
    envelope = signals.onset_envelope(clip.waveform, clip.sample_rate)
    onsets = signals.onset_times(envelope)
    peaks = signals.motion_peaks(curve, fps)
    offset = signals.best_offset(curve, fps, envelope, max_offset_sec)
    return {
        "black_share": signals.black_share(clip.frames),
        "still_share": signals.frozen_share(curve),
        "motion": float(curve.mean()) if len(curve) else 0.0,
        "motion_peak": signals.motion_peak(clip.frames),
        "cuts": signals.count_cuts(clip.frames),
        "loudness_dbfs": signals.loudness_dbfs(clip.waveform),
        "silence_share": signals.silence_share(clip.waveform, clip.sample_rate),
        "clipping_share": signals.clipping_share(clip.waveform),
        "onsets_per_sec": len(onsets) / duration_sec,
        "av_align": signals.av_align(onsets.tolist(), peaks.tolist(), tolerance_sec=1 / fps),
        "av_offset_sec": offset.offset_sec if offset else None,
        "av_correlation": offset.correlation if offset else None,
        "av_confidence": offset.confidence if offset else None,
    }

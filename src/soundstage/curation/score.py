"""Score: every clip is decoded once, small and grey, and turned into one row of signals."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config.slices import ScoreSlice
from ..config.tree import ScoreConfig
from ..data.records import CLIPS, SIGNALS
from ..data.streams import count_rows, stream_rows, write_stream
from ..errors import DataError
from ..media.decode import DecodedClip, View, decode_clip
from ..stages.execute import Inputs, Outcome, Work
from ..stages.progress import track
from ..stages.workspace import Workspace
from . import signals
from .learned import Curator, choose_curator

SIGNAL_VERSION = "4"
"""Changes when a signal's meaning does: rows of two versions are never compared."""

_CHUNK = 4
_CHUNKS_AHEAD = 4
_CUTS_VIEW, _PICTURES_VIEW = "cuts", "pictures"

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    clip_id: str
    path: Path
    num_frames: int
    caption: str


def run(config: ScoreSlice, inputs: Inputs, work: Work) -> Outcome:
    """Write `signals.parquet`, one row for each clip of the split record, in memory that does not grow with it.

    Raises:
        ConfigError: an encoder that the configuration names is not there.
        DataError: a clip cannot be decoded or has another number of frames than its record says; it is named.
    """
    signals.check_encoder(config.score.image_text_model, "score.image_text_model")
    signals.check_encoder(config.score.audio_text_model, "score.audio_text_model")
    manifest = work.workspace.output(inputs["clips"], "clips.parquet")
    clips = count_rows(manifest, CLIPS)
    curator, said = choose_curator(inputs["curator"], work.workspace, config.score.min_scorer_auc)
    log.info("%s", said)
    rows = _score_all(_tasks(manifest, work.workspace), clips, config.score, curator)
    found: Counter[str] = Counter()
    written = write_stream(
        work.out / "signals.parquet", SIGNALS, _counted(track(rows, "score", clips, "clip"), found), "clip_id"
    )
    return Outcome(
        counts={
            "clips": clips,
            "signals": written,
            "sync_measured": found["av_correlation"],
            "sync_learned": found["sync_score"],
        },
        notes={"curator": said, "null_columns": ", ".join(_null_columns(config.score)) or "none"},
    )


def _tasks(manifest: Path, workspace: Workspace) -> Iterator[_Task]:
    for row in stream_rows(manifest, ("clip_id", "media_uri", "num_frames", "caption")):
        yield _Task(row["clip_id"], workspace.resolve(row["media_uri"]), row["num_frames"], row["caption"])


def _counted(rows: Iterable[dict[str, Any]], found: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows themselves, counting in how many each column has a value."""
    for row in rows:
        found.update(name for name, value in row.items() if value is not None)
        yield row


def _null_columns(config: ScoreConfig) -> list[str]:
    """Columns that are null in every row because nothing is configured that would fill them."""
    filled = {
        "speech_share": config.speech,
        "cuts_learned": config.learned_cuts,
        "optical_flow": config.optical_flow,
        "image_text_cosine": config.image_text_model,
        "audio_text_cosine": config.audio_text_model,
        # CLIP and CLAP share no space, so no two of them give a cosine of picture and sound.
        "image_audio_cosine": None,
    }
    return [name for name, source in filled.items() if not source]


def _score_all(
    tasks: Iterable[_Task], total: int, config: ScoreConfig, curator: Curator | None
) -> Iterator[dict[str, Any]]:
    """Rows in the order of `tasks`, whatever the number of processes."""
    score = partial(_score_one, config, curator)
    workers = min(config.workers, total)
    if workers <= 1:
        yield from map(score, tasks)
        return
    # Fresh interpreters: a fork of a process that already runs threads (torch, tracking) can deadlock.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from in_order(pool, score, tasks, ahead=workers * _CHUNKS_AHEAD)
    except TasksLostError as error:
        clips = ", ".join(task.clip_id for task in error.tasks)
        raise DataError(
            f"a scoring process died, most likely out of memory, while it was at one of the clips {clips}; "
            "set score.workers=1 to find which, and to use less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class TasksLostError(Exception):
    """A process of a pool died; `tasks` are those that processes may have been at."""

    def __init__(self, tasks: list[Any]) -> None:
        super().__init__(f"a process died at one of {len(tasks)} tasks")
        self.tasks = tasks


def in_order(
    pool: Executor, function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], ahead: int
) -> Iterator[ResultT]:
    """Results in the order of `tasks`, of which at most `ahead` chunks are taken before their results are asked for.

    Raises:
        TasksLostError: a process of the pool died.
    """
    remaining = iter(tasks)
    waiting: deque[tuple[Future[list[ResultT]], list[TaskT]]] = deque()
    try:
        while chunk := list(islice(remaining, _CHUNK)):
            waiting.append((pool.submit(_each, function, chunk), chunk))
            if len(waiting) >= ahead:
                yield from waiting[0][0].result()
                waiting.popleft()
        while waiting:
            yield from waiting[0][0].result()
            waiting.popleft()
    except BrokenProcessPool as error:
        # The pool fails every chunk that was not answered; only its first ones can have been in a process.
        failed = [tasks for future, tasks in waiting if not future.done() or future.exception() is not None]
        raise TasksLostError([task for tasks in failed[:_CHUNKS_AHEAD] for task in tasks]) from error


def _each(function: Callable[[TaskT], ResultT], tasks: list[TaskT]) -> list[ResultT]:
    return [function(task) for task in tasks]


def _score_one(config: ScoreConfig, curator: Curator | None, task: _Task) -> dict[str, Any]:
    try:
        views = _views(config, task.num_frames)
        clip = decode_clip(task.path, config.frame_size, "gray", views, chroma_grid=signals.CHROMA_GRID)
    except DataError as error:
        raise DataError(f"clip {task.clip_id} cannot be scored: {error}") from error
    if len(clip.frames) != task.num_frames:
        raise DataError(
            f"clip {task.clip_id}: {task.path} holds {len(clip.frames)} frames, its record says {task.num_frames}; "
            "the media file was changed: delete it and rerun `soundstage ingest`"
        )
    measured = measure(clip, config) | _compare(clip, task.caption, config)
    learned = curator.columns(clip) if curator else {}
    # Signals that nothing was configured for are null, and never a made-up number.
    known = {"clip_id": task.clip_id, "signal_version": SIGNAL_VERSION}
    return dict.fromkeys(SIGNALS.names) | known | measured | learned


def _views(config: ScoreConfig, num_frames: int) -> dict[str, View]:
    """What signals need besides small grey frames, for those that are configured."""
    views = {}
    if config.learned_cuts:
        views[_CUTS_VIEW] = View(signals.TRANSNET_SIZE)
    if config.image_text_model:
        views[_PICTURES_VIEW] = View(frames=signals.spread_frames(num_frames))
    return views


def measure(clip: DecodedClip, config: ScoreConfig) -> dict[str, float | int | None]:
    """Signals of one grey clip by column name (units in `data.records.SIGNALS`); None where one has no meaning.

    Raises:
        DataError: the weights of a configured network are missing.
    """
    fps = float(clip.fps)
    blocks = signals.block_means(clip.frames)
    curve = signals.motion_curve(clip.frames, blocks)
    colour = None if clip.chroma is None else signals.colour_block_means(clip.chroma)
    measured = {
        "black_share": signals.black_share(clip.frames),
        "still_share": signals.frozen_share(curve, colour),
        "motion": float(curve.mean()) if len(curve) else 0.0,
        "motion_peak": signals.motion_peak(clip.frames, blocks, colour),
        "pan_share": signals.pan_share(clip.frames, fps),
        "sharpness": signals.sharpness(clip.frames),
        "letterbox_share": signals.letterbox_share(clip.frames),
        "optical_flow": signals.mean_flow(clip.frames, fps) if config.optical_flow else None,
        "cuts": signals.count_cuts(clip.frames, blocks, clip.chroma),
        "cuts_learned": signals.count_learned_cuts(clip.views[_CUTS_VIEW]) if config.learned_cuts else None,
        "loudness_dbfs": signals.loudness_dbfs(clip.waveform),
        "silence_share": signals.silence_share(clip.waveform, clip.sample_rate),
        "clipping_share": signals.clipping_share(clip.waveform),
        "speech_share": signals.speech_share(clip.waveform, clip.sample_rate) if config.speech else None,
    }
    return measured | _measure_sync(clip, curve, config.max_offset_sec)


def _measure_sync(
    clip: DecodedClip, curve: NDArray[np.float64], max_offset_sec: float
) -> dict[str, float | int | None]:
    fps = float(clip.fps)
    envelope = signals.onset_envelope(clip.waveform, clip.sample_rate)
    onsets = signals.onset_times(envelope)
    peaks = signals.motion_peaks(curve, fps)
    offset = signals.best_offset(curve, fps, envelope, max_offset_sec)
    return {
        "onsets_per_sec": len(onsets) * fps / len(clip.frames),
        "av_align": signals.av_align(onsets.tolist(), peaks.tolist(), tolerance_sec=1 / fps),
        "av_offset_sec": offset.offset_sec if offset else None,
        "av_correlation": offset.correlation if offset else None,
        "av_confidence": offset.confidence if offset else None,
    }


def _compare(clip: DecodedClip, caption: str, config: ScoreConfig) -> dict[str, float]:
    """Cosines of picture, sound and caption by the encoders that are configured."""
    cosines = {}
    if config.image_text_model:
        pictures = clip.views[_PICTURES_VIEW]
        cosines["image_text_cosine"] = signals.image_text_cosine(pictures, caption, config.image_text_model)
    if config.audio_text_model:
        cosines["audio_text_cosine"] = signals.audio_text_cosine(
            clip.waveform, clip.sample_rate, caption, config.audio_text_model
        )
    return cosines

"""The store of normalised clips, and the work on one source that fills it.

A clip lies at `media/<fingerprint of the normalisation>/<first two of clip_id>/<clip_id>.mp4`, beside it
`<clip_id>.json` with what a manifest row needs. A clip that is there is never encoded again, so adding a source costs
that source alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import DataError
from ..media.normalise import NormaliseSettings, Span, normalise, plan_spans
from ..media.opening import SourceError
from ..media.probe import Limits, SourceProbe, probe
from ..stages.files import sha256_file, sha256_text, write_json


@dataclass(frozen=True)
class SourceTask:
    """One source to bring into the store; crosses into a worker process."""

    path: Path
    source_sha256: str
    store: Path
    """folder of this normalisation"""
    limits: Limits
    span_sec: float
    settings: NormaliseSettings

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class StoredClip:
    """Facts of a clip in the store: the sidecar's content."""

    clip_id: str
    start_us: int
    duration_us: int
    num_frames: int
    width: int
    height: int
    channels: int
    video_codec: str
    audio_codec: str
    media_sha256: str


@dataclass(frozen=True)
class SourceResult:
    """What became of a source: its clips, or why it has none."""

    clips: tuple[StoredClip, ...] = ()
    encoded: int = 0
    """clips that were not in the store before"""
    reason: str = ""
    detail: str = ""


def clip_id(source_sha256: str, span: Span) -> str:
    """Name of a clip: the same bytes and span are the same clip everywhere."""
    return sha256_text(f"{source_sha256} {span.start_us} {span.duration_us}")


def media_path(store: Path, name: str) -> Path:
    """Where the clip called `name` lies."""
    return store / name[:2] / f"{name}.mp4"


def store_source(task: SourceTask) -> SourceResult:
    """Probe a source and bring each of its spans into the store; runs in a worker process."""
    try:
        return _store(task)
    except SourceError as refusal:
        return SourceResult(reason=refusal.reason, detail=str(refusal))
    except MemoryError:
        return SourceResult(
            reason="too_large", detail="decoding needs more memory than allowed (ingest.worker_memory_gib)"
        )


def _store(task: SourceTask) -> SourceResult:
    source = probe(task.path, task.limits)
    names = {clip_id(task.source_sha256, span): span for span in _spans(task, source)}
    stored = {name: _stored(task.store, name) for name in names}
    missing = [name for name, clip in stored.items() if clip is None]
    if missing:
        stored |= {clip.clip_id: clip for clip in _encode(task, source, {name: names[name] for name in missing})}
    return SourceResult(clips=tuple(clip for clip in stored.values() if clip is not None), encoded=len(missing))


def _spans(task: SourceTask, source: SourceProbe) -> list[Span]:
    spans = plan_spans(source.duration, task.span_sec)
    shortest = min(span.duration_us for span in spans) / 1e6
    if shortest < task.limits.min_duration_sec:
        raise SourceError(
            "too_short",
            f"{float(source.duration):.3f} s of video split by ingest.span_sec={task.span_sec:g} give spans of "
            f"{shortest:.3f} s, under ingest.min_duration_sec={task.limits.min_duration_sec:g}; use longer spans",
        )
    return spans


def _encode(task: SourceTask, source: SourceProbe, names: dict[str, Span]) -> Iterator[StoredClip]:
    targets = [(span, media_path(task.store, name)) for name, span in names.items()]
    written = normalise(task.path, source, targets, task.settings)
    for (name, span), (_, path), media in zip(names.items(), targets, written, strict=True):
        clip = StoredClip(
            clip_id=name,
            start_us=span.start_us,
            duration_us=span.duration_us,
            num_frames=media.num_frames,
            width=media.width,
            height=media.height,
            channels=source.channels,
            video_codec=source.video_codec,
            audio_codec=source.audio_codec,
            media_sha256=sha256_file(path),
        )
        # Last, so that a sidecar vouches for its clip.
        write_json(path.with_suffix(".json"), asdict(clip))
        yield clip


def _stored(store: Path, name: str) -> StoredClip | None:
    """The clip if it is in the store with the bytes its sidecar states."""
    path = media_path(store, name)
    sidecar = path.with_suffix(".json")
    if not sidecar.exists() or not path.exists():
        return None
    try:
        clip = StoredClip(**json.loads(sidecar.read_text()))
    except (TypeError, ValueError) as error:
        raise DataError(f"{sidecar} is not a clip's sidecar: {error}; delete it and run again") from error
    return clip if clip.media_sha256 == sha256_file(path) else None

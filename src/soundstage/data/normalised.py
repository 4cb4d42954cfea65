"""The store of normalised clips, and the work on one source that fills it.

A clip lies at `media/<fingerprint of the normalisation>/<first two of clip_id>/<clip_id>.mp4`, beside it
`<clip_id>.json` with what a manifest row needs, and `<clip_id>.fingerprint.json`, by which near-duplicates are found.
What became of a source is kept in the same folder, at `plans/<first two of its hash>/<hash>.<fingerprint of the
plan>.json`: its spans and rejects as far as its bytes and the settings decide them. A source whose plan and clips are
there is neither fetched nor decoded again.

Clips come first, then their fingerprints and sidecars, then the plan, each whole or not at all: what a killed run
leaves behind counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..media.normalise import NormalisedClip, NormaliseSettings, Span, normalise
from ..media.opening import SourceError
from ..media.probe import Limits, SourceProbe, probe
from ..stages.files import sha256_file, sha256_text, write_json
from .duplicates.fingerprint import fingerprint
from .duplicates.store import load_fingerprint, save_fingerprint
from .fetching import FetchLimits, LocalCopy, local_copy
from .ranges import PlannedRange, SpanReject, plan_ranges
from .sources.item import Location, Range

PathT = TypeVar("PathT", bound=PurePath)
HashFile = Callable[[Path], str]


@dataclass(frozen=True)
class StoreSettings:
    """How sources become clips: the same for all of a run."""

    store: Path
    """folder of this normalisation"""
    limits: Limits
    span_sec: float
    normalise: NormaliseSettings
    fetch: FetchLimits
    planning: str
    """fingerprint of the code that plans spans"""

    def plan_path(self, sha256: str, ranges: Sequence[Range]) -> Path:
        """Where the plan of a source with these bytes lies."""
        wanted = [[part.start_us, part.end_us] for part in ranges]
        limits = [*asdict(self.limits).values(), self.span_sec]
        name = sha256_text(json.dumps([self.planning, limits, wanted]))[:16]
        return self.store / "plans" / sha256[:2] / f"{sha256}.{name}.json"


@dataclass(frozen=True)
class SourceTask:
    """One source to bring into the store; crosses into a worker process."""

    uri: str
    location: Location
    sha256: str
    """of its bytes; empty when they must be read to know"""
    ranges: tuple[Range, ...]
    """wanted parts, in order"""
    settings: StoreSettings

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True)
class StoredClip:
    """Facts of a clip in the store: the sidecar's content. A sidecar with other fields counts as none."""

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
class StoredRange:
    """What became of one wanted part of a source: together clips and rejects cover it."""

    clips: tuple[StoredClip, ...] = ()
    rejects: tuple[SpanReject, ...] = ()


@dataclass(frozen=True)
class SourceResult:
    """What became of a source: its parts, or why it has none."""

    sha256: str = ""
    parts: tuple[StoredRange, ...] = ()
    """one for each wanted range"""
    encoded: int = 0
    """clips that were not in the store before"""
    reason: str = ""
    detail: str = ""


def clip_id(source_sha256: str, span: Span) -> str:
    """Name of a clip: the same bytes and span are the same clip everywhere."""
    return sha256_text(f"{source_sha256} {span.start_us} {span.duration_us}")


def media_path(store: PathT, name: str) -> PathT:
    """Where the clip called `name` lies."""
    return store / name[:2] / f"{name}.mp4"


def store_source(task: SourceTask) -> SourceResult:
    """Fetch and probe a source and bring its clips into the store; runs in a worker process."""
    try:
        with local_copy(task.location, task.sha256, task.settings.fetch) as copy:
            return recall(copy.sha256, task.ranges, task.settings, sha256_file) or _decided(task, copy)
    except SourceError as refusal:
        return SourceResult(task.sha256, reason=refusal.reason, detail=str(refusal))


def _decided(task: SourceTask, copy: LocalCopy) -> SourceResult:
    """Clips of a source, or the reason its bytes give for having none; either is remembered."""
    try:
        result = _store(task, copy)
    except SourceError as refusal:
        result = SourceResult(copy.sha256, reason=refusal.reason, detail=str(refusal))
    except MemoryError:
        # Not remembered: how much memory there is, is no matter of the source.
        detail = "decoding needs more memory than allowed (ingest.worker_memory_gib)"
        return SourceResult(copy.sha256, reason="too_large", detail=detail)
    _remember(task, result)
    return result


def recall(sha256: str, ranges: Sequence[Range], settings: StoreSettings, hash_file: HashFile) -> SourceResult | None:
    """What became of a source in an earlier run, None when it is not known or a clip of it is not whole any more."""
    plan = _read_json(settings.plan_path(sha256, ranges))
    if plan is None:
        return None
    if plan["reason"]:
        return SourceResult(sha256, reason=plan["reason"], detail=plan["detail"])
    parts = []
    for part in plan["parts"]:
        clips = [_stored(settings.store, name, hash_file) for name in part["clips"]]
        whole = tuple(clip for clip in clips if clip is not None)
        if len(whole) < len(clips):
            return None
        parts.append(StoredRange(whole, tuple(SpanReject(**reject) for reject in part["rejects"])))
    return SourceResult(sha256, tuple(parts))


def _remember(task: SourceTask, result: SourceResult) -> None:
    parts = [
        {"clips": [clip.clip_id for clip in part.clips], "rejects": [asdict(reject) for reject in part.rejects]}
        for part in result.parts
    ]
    plan = {"reason": result.reason, "detail": result.detail, "parts": parts}
    write_json(task.settings.plan_path(result.sha256, task.ranges), plan)


def _store(task: SourceTask, copy: LocalCopy) -> SourceResult:
    settings = task.settings
    source = probe(copy.path, settings.limits)
    planned = plan_ranges(copy.path, source, task.ranges, settings.span_sec, settings.limits.min_duration_sec)
    names = {clip_id(copy.sha256, span): span for part in planned for span in part.spans}
    stored = {name: _stored(settings.store, name, sha256_file) for name in names}
    missing = {name: names[name] for name, clip in stored.items() if clip is None}
    for clip in _encode(settings, copy.path, source, missing):
        stored[clip.clip_id] = clip
    parts = tuple(_part(part, copy.sha256, stored) for part in planned)
    return SourceResult(copy.sha256, parts, encoded=len(missing))


def _part(planned: PlannedRange, sha256: str, stored: Mapping[str, StoredClip | None]) -> StoredRange:
    clips = [stored[clip_id(sha256, span)] for span in planned.spans]
    return StoredRange(tuple(clip for clip in clips if clip is not None), tuple(planned.rejects))


def _encode(
    settings: StoreSettings, path: Path, source: SourceProbe, names: Mapping[str, Span]
) -> Iterator[StoredClip]:
    for passed in _passes(names):
        targets = [(names[name], media_path(settings.store, name)) for name in passed]
        written = normalise(path, source, targets, settings.normalise, partial(_fingerprint, settings.normalise))
        for name, (span, target), media in zip(passed, targets, written, strict=True):
            clip = _facts(name, span, target, media, source)
            # Last, so that a sidecar vouches for its clip.
            write_json(target.with_suffix(".json"), asdict(clip))
            yield clip


def _facts(name: str, span: Span, path: Path, media: NormalisedClip, source: SourceProbe) -> StoredClip:
    """What is kept of a clip that was just written to `path`."""
    return StoredClip(
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


def _fingerprint(
    settings: NormaliseSettings, media: Path, frames: NDArray[np.uint8], waveform: NDArray[np.float32]
) -> None:
    # While the pictures are in memory: decoding them again would cost more than all the rest of a fingerprint.
    save_fingerprint(media, fingerprint(frames, settings.fps, waveform, settings.sample_rate))


def _passes(names: Mapping[str, Span]) -> list[list[str]]:
    """Clips of each decoding pass: a pass goes forward in time, so spans that overlap need several."""
    passes: list[list[str]] = []
    for name, span in sorted(names.items(), key=lambda item: (item[1].start_us, item[1].duration_us)):
        free = (one for one in passes if _end(names[one[-1]]) <= span.start_us)
        chosen = next(free, None)
        if chosen is None:
            passes.append([name])
        else:
            chosen.append(name)
    return passes


def _end(span: Span) -> int:
    return span.start_us + span.duration_us


def _stored(store: Path, name: str, hash_file: HashFile) -> StoredClip | None:
    """The clip if it is in the store with the bytes its sidecar states, and with a fingerprint of this version."""
    path = media_path(store, name)
    content = _read_json(path.with_suffix(".json"))
    if content is None or not path.exists():
        return None
    try:
        clip = StoredClip(**content)
    except TypeError:
        # Written by a version that knew other facts: the clip is made again, the same bytes by the same code.
        return None
    if load_fingerprint(path) is None:
        # Of the pictures that were encoded, which only the source has: the clip is made again, fingerprint and all.
        return None
    return clip if clip.media_sha256 == hash_file(path) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    """An object of our own files, None when the file is absent or was damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

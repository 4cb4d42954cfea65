"""Ingestion: every source becomes normalised clips or rejects with a reason, and none is lost.

Decoding happens in processes of their own, one source at a time: a file that is broken, hostile or endless costs that
file. Sources with equal bytes are decoded once; the first by name keeps the clips.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.slices import IngestSlice
from ..config.tree import IngestConfig
from ..errors import DataError
from ..media.isolation import WorkerFailure, run_isolated
from ..media.normalise import NormaliseSettings
from ..media.probe import Limits
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import sha256_file, sha256_text
from ..stages.fingerprint import code_version
from ..stages.progress import Progress, track
from ..stages.workspace import Workspace
from .normalised import SourceResult, SourceTask, StoredClip, media_path, store_source
from .records import CLIPS, REJECT_REASONS, REJECTS, write_table
from .sources import Annotation, SourceFile, is_synth, list_sources, read_annotations, resolve_source

TRUTH_FILE = "truth.parquet"
_NORMALISE_MODULE = "soundstage.media.normalise"
_EXAMPLES = 3

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
SourceWorker = Callable[[SourceTask], SourceResult]


@dataclass(frozen=True)
class _Found:
    """One source with the hash of its bytes; empty when it has none."""

    source: SourceFile
    sha256: str


def run(config: IngestSlice, inputs: Inputs, work: Work, worker: SourceWorker = store_source) -> Outcome:  # noqa: ARG001
    """Write `clips.parquet` and `rejects.parquet`; for the procedural world also its `truth.parquet`.

    `worker` does the work on one source in another process.

    Raises:
        DataError: no source, an unusable `sources.csv`, or every source rejected.
    """
    folder = resolve_source(config, work.workspace)
    sources = list_sources(folder, work.workspace)
    annotations = read_annotations(folder, sources, config.ingest.licence)
    found = [_Found(item, _sha256(item)) for item in track(sources, "hash sources", len(sources), "file")]
    store = work.workspace.media / normalisation_fingerprint(config.ingest)
    results = _process(found, config.ingest, store, worker)
    clips, rejects = _rows(found, results, annotations, config.ingest, store, work.workspace)
    counts = _counts(found, clips, rejects)
    if not clips:
        raise DataError(_all_rejected(folder, rejects))
    write_table(work.out / "clips.parquet", CLIPS, clips, sort_by=["clip_id"])
    write_table(work.out / "rejects.parquet", REJECTS, rejects, sort_by=["source_uri", "start_us"])
    if is_synth(config):
        shutil.copyfile(folder / TRUTH_FILE, work.out / TRUTH_FILE)
    encoded = sum(result.encoded for result in results.values())
    log.info("%d clips, %d of them newly encoded, %d rejects", len(clips), encoded, len(rejects))
    # Not a count of the record: how much was in the store before must not change what a stage's record says.
    work.tracker.log_metrics({"clips_encoded": float(encoded)})
    return Outcome(counts=counts, metrics={"clip_seconds": sum(row["duration_us"] for row in clips) / 1e6})


def normalisation_fingerprint(config: IngestConfig) -> str:
    """Name of the folder of clips normalised alike: settings and code, 16 hex digits."""
    settings = [config.short_side, config.fps, config.sample_rate]
    return sha256_text(json.dumps([settings, code_version(_NORMALISE_MODULE)]))[:16]


def _sha256(source: SourceFile) -> str:
    return "" if source.oddity else sha256_file(source.path)


def _process(
    found: Sequence[_Found], config: IngestConfig, store: Path, worker: SourceWorker
) -> dict[str, SourceResult]:
    """What became of each distinct content, by its hash."""
    first = {item.sha256: item.source for item in reversed(found) if item.sha256}
    limits = Limits(config.min_duration_sec, config.max_duration_sec, config.max_pixels)
    settings = NormaliseSettings(config.short_side, config.fps, config.sample_rate)
    tasks = [
        SourceTask(source.path, sha256, store, limits, config.span_sec, settings)
        for sha256, source in sorted(first.items(), key=lambda item: item[1].uri)
    ]
    results: dict[str, SourceResult] = {}
    with Progress("ingest", len(tasks), "file") as progress:
        for index, outcome in run_isolated(
            worker,
            tasks,
            workers=config.workers,
            timeout_sec=config.file_timeout_sec,
            memory_gib=config.worker_memory_gib,
        ):
            if isinstance(outcome, WorkerFailure):
                outcome = _failed(outcome, store)
            results[tasks[index].source_sha256] = outcome
            progress.advance(note=tasks[index].path.name)
    return results


def _failed(failure: WorkerFailure, store: Path) -> SourceResult:
    # The process had no chance to remove what it was writing.
    for leftover in store.glob(f"*/.*.{failure.pid}.tmp"):
        leftover.unlink()
    return SourceResult(reason=failure.reason, detail=failure.detail)


def _rows(
    found: Sequence[_Found],
    results: Mapping[str, SourceResult],
    annotations: Mapping[str, Annotation],
    config: IngestConfig,
    store: Path,
    workspace: Workspace,
) -> tuple[list[Row], list[Row]]:
    """Clip and reject rows of all sources; of equal sources the first by name keeps the clips."""
    clips: list[Row] = []
    rejects: list[Row] = []
    kept: set[str] = set()
    for item in found:
        uri = item.source.uri
        result = results[item.sha256] if item.sha256 else SourceResult(reason="not_media", detail=item.source.oddity)
        if not result.clips:
            rejects.append(_reject(uri, 0, 0, result.reason, result.detail))
        elif item.sha256 in kept:
            rejects.extend(
                _reject(uri, clip.start_us, clip.duration_us, "exact_duplicate", f"same bytes as clip {clip.clip_id}")
                for clip in result.clips
            )
        else:
            kept.add(item.sha256)
            uris = (workspace.relative(media_path(store, clip.clip_id)) for clip in result.clips)
            clips.extend(
                _clip(item, clip, media_uri, annotations[uri], config)
                for clip, media_uri in zip(result.clips, uris, strict=True)
            )
    return clips, rejects


def _reject(uri: str, start_us: int, duration_us: int, reason: str, detail: str) -> Row:
    assert reason in REJECT_REASONS, reason
    return {"source_uri": uri, "start_us": start_us, "duration_us": duration_us, "reason": reason, "detail": detail}


def _clip(item: _Found, clip: StoredClip, media_uri: str, annotation: Annotation, config: IngestConfig) -> Row:
    return {
        "clip_id": clip.clip_id,
        "source_uri": item.source.uri,
        "source_sha256": item.sha256,
        "start_us": clip.start_us,
        "duration_us": clip.duration_us,
        "fps_num": config.fps,
        "fps_den": 1,
        "num_frames": clip.num_frames,
        "width": clip.width,
        "height": clip.height,
        "sample_rate": config.sample_rate,
        "channels": clip.channels,
        "video_codec": clip.video_codec,
        "audio_codec": clip.audio_codec,
        "caption": annotation.caption,
        "caption_from": annotation.caption_from,
        "label": annotation.label,
        "licence": annotation.licence,
        "provenance": annotation.provenance,
        "media_sha256": clip.media_sha256,
        "media_uri": media_uri,
        "group": "",
        "split": "",
        "duplicate_of": "",
    }


def _counts(found: Sequence[_Found], clips: Sequence[Row], rejects: Sequence[Row]) -> dict[str, int]:
    """Counts of the record, after checking that each source is a clip's or a reject's, and none is both."""
    with_clips = {row["source_uri"] for row in clips}
    without = {row["source_uri"] for row in rejects}
    assert not with_clips & without, "a source was kept and rejected"
    assert with_clips | without == {item.source.uri for item in found}, "a source was lost"
    reasons = Counter(row["reason"] for row in rejects)
    return {
        "sources": len(found),
        "sources_kept": len(with_clips),
        "sources_rejected": len(without),
        "clips": len(clips),
        "rejects": len(rejects),
        **{f"reject_{reason}": reasons[reason] for reason in sorted(reasons)},
    }


def _all_rejected(folder: Path, rejects: Sequence[Row]) -> str:
    reasons = Counter(row["reason"] for row in rejects)
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return (
        f"all {len(rejects)} sources of {folder} are rejected ({counts}); expected at least one usable video. "
        f"The first ones:\n  {chr(10).join(_examples(rejects))}"
    )


def _examples(rejects: Sequence[Row]) -> Iterator[str]:
    for row in rejects[:_EXAMPLES]:
        yield f"{row['source_uri']}: {row['reason']}: {row['detail']}"

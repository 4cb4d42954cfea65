"""Ingestion: every source becomes normalised clips or rejects with a reason, and none is lost.

Fetching and decoding happen in processes of their own, one source at a time: a file that is broken, hostile or endless
costs that file. Work is kept as it is done, source by source, so that a run killed at any moment goes on where it was,
and a source that was added costs that source alone.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..config.slices import IngestSlice
from ..config.tree import IngestConfig
from ..errors import DataError
from ..media.isolation import WorkerFailure, run_isolated
from ..media.normalise import NormaliseSettings
from ..media.probe import Limits
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import sha256_text
from ..stages.fingerprint import code_version
from ..stages.progress import Progress
from .duplicates.store import write_fingerprints
from .fetching import FetchLimits, scratch_of
from .hash_cache import HashCache, Signature, settled_signature
from .ingest_rows import Ledger
from .normalised import SourceResult, SourceTask, StoreSettings, recall, store_source
from .records import CLIPS, REJECTS, write_table
from .sources.item import LocalFile, Location, Range, RemoteFile, SourceItem, TarMember
from .sources.listing import TRUTH_FILE, Listing, list_items

_NORMALISE_MODULE = "soundstage.media.normalise"
_PLANNING_MODULE = "soundstage.data.ranges"
_PASSING = ("unreachable", "timeout", "crashed")
_GIB = 2**30
_START_SEC = 600.0

log = logging.getLogger(__name__)

SourceWorker = Callable[[SourceTask], SourceResult]


@dataclass(frozen=True)
class _Source:
    """A file and the parts of it that are wanted."""

    uri: str
    location: Location
    ranges: tuple[Range, ...]


def run(config: IngestSlice, inputs: Inputs, work: Work, worker: SourceWorker = store_source) -> Outcome:  # noqa: ARG001
    """Write `clips.parquet`, `rejects.parquet`, `fingerprints.parquet`; for the procedural world its `truth.parquet`.

    `worker` does the work on one source in another process.

    Raises:
        DataError: no source, an unusable table, or every source rejected.
    """
    listing = list_items(config, work.workspace)
    settings = _settings(config.ingest, work)
    results, encoded = _results(listing.items, config.ingest, settings, HashCache.open(work.workspace), worker)
    ledger = Ledger(config.ingest, settings.store, work.workspace)
    places: Counter[str] = Counter()
    for item in listing.items:
        ledger.add(item, results[item.uri] if item.location else None, places[item.uri])
        places[item.uri] += item.location is not None
    return _written(ledger, listing, encoded, work)


def _written(ledger: Ledger, listing: Listing, encoded: int, work: Work) -> Outcome:
    counts = ledger.counts()
    if not ledger.clips:
        raise DataError(ledger.all_rejected(listing.origin))
    write_table(work.out / "clips.parquet", CLIPS, ledger.clips, sort_by=["clip_id"])
    write_table(
        work.out / "rejects.parquet", REJECTS, ledger.rejects, sort_by=["source_uri", "start_us", "duration_us"]
    )
    media = sorted((row["clip_id"], work.workspace.resolve(row["media_uri"])) for row in ledger.clips)
    write_fingerprints(work.out / "fingerprints.parquet", media)
    if listing.truth:
        shutil.copyfile(listing.truth, work.out / TRUTH_FILE)
    log.info("%d clips, %d of them newly encoded, %d rejects", counts["clips"], encoded, counts["rejects"])
    passing = {reason: counts[f"reject_{reason}"] for reason in _PASSING if f"reject_{reason}" in counts}
    if passing:
        log.warning("rejects that another try may save (run again with --fresh): %s", json.dumps(passing))
    # Not a count of the record: how much was in the store before must not change what a stage's record says.
    work.tracker.log_metrics({"clips_encoded": float(encoded)})
    return Outcome(counts=counts, metrics={"clip_seconds": sum(row["duration_us"] for row in ledger.clips) / 1e6})


def normalisation_fingerprint(config: IngestConfig) -> str:
    """Name of the folder of clips normalised alike: settings and code, 16 hex digits."""
    settings = [config.short_side, config.fps, config.sample_rate]
    return sha256_text(json.dumps([settings, code_version(_NORMALISE_MODULE)]))[:16]


def _settings(config: IngestConfig, work: Work) -> StoreSettings:
    scratch = work.scratch / "sources"
    store = work.workspace.media / normalisation_fingerprint(config)
    # What a killed run had fetched, and what it was writing. Another run may be at work in the same store, but no
    # process of it is older than a file's time.
    shutil.rmtree(scratch, ignore_errors=True)
    _remove_leftovers(store, config.file_timeout_sec + config.fetch_timeout_sec + _START_SEC)
    max_bytes = int(config.max_fetch_gib * _GIB)
    return StoreSettings(
        store=store,
        limits=Limits(config.min_duration_sec, config.max_duration_sec, config.max_pixels),
        span_sec=config.span_sec,
        normalise=NormaliseSettings(config.short_side, config.fps, config.sample_rate),
        fetch=FetchLimits(scratch, max_bytes, config.fetch_timeout_sec, config.fetch_attempts),
        planning=code_version(_PLANNING_MODULE),
    )


def _remove_leftovers(store: Path, age_sec: float) -> None:
    for leftover in store.rglob(".*.tmp"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime < time.time() - age_sec:
                leftover.unlink()


def _sources(items: Iterable[SourceItem]) -> list[_Source]:
    """The distinct files of the items, in canonical order, each with its wanted ranges in order."""
    found: dict[str, tuple[Location, list[Range]]] = {}
    for item in items:
        if item.location is not None:
            found.setdefault(item.uri, (item.location, []))[1].append(item.range)
    return [_Source(uri, location, tuple(ranges)) for uri, (location, ranges) in found.items()]


def _results(
    items: Sequence[SourceItem], config: IngestConfig, settings: StoreSettings, cache: HashCache, worker: SourceWorker
) -> tuple[dict[str, SourceResult], int]:
    """What became of each source, by its uri; and how many clips were encoded for it."""
    sources = _sources(items)
    cache.hash_local([one.location.path for one in sources if isinstance(one.location, LocalFile)], config.workers)
    results: dict[str, SourceResult] = {}
    tasks: dict[tuple[str, ...], tuple[SourceTask, list[str]]] = {}
    for source in sources:
        sha256 = _known_hash(source.location, cache)
        known = recall(sha256, source.ranges, settings, cache.sha256_of_file) if sha256 else None
        if known is not None:
            results[source.uri] = known
            continue
        # Equal bytes are decoded once.
        key = (sha256, str(source.ranges)) if sha256 else (source.uri,)
        task = SourceTask(source.uri, source.location, sha256, source.ranges, settings)
        tasks.setdefault(key, (task, []))[1].append(source.uri)
    encoded = 0
    for task, uris, result in _work(list(tasks.values()), config, settings, worker):
        _learn(task, result, cache)
        results |= dict.fromkeys(uris, result)
        encoded += result.encoded
    return results, encoded


def _work(
    tasks: Sequence[tuple[SourceTask, list[str]]], config: IngestConfig, settings: StoreSettings, worker: SourceWorker
) -> Iterable[tuple[SourceTask, list[str], SourceResult]]:
    is_remote = any(not isinstance(task.location, LocalFile) for task, _ in tasks)
    with Progress("ingest", len(tasks), "file") as progress:
        for index, outcome in run_isolated(
            worker,
            [task for task, _ in tasks],
            workers=config.workers,
            timeout_sec=config.file_timeout_sec + (config.fetch_timeout_sec if is_remote else 0.0),
            memory_gib=config.worker_memory_gib,
        ):
            task, uris = tasks[index]
            yield task, uris, _failed(outcome, settings) if isinstance(outcome, WorkerFailure) else outcome
            progress.advance(note=task.uri)


def _failed(failure: WorkerFailure, settings: StoreSettings) -> SourceResult:
    # The process had no chance to remove what it was writing.
    for leftover in settings.store.rglob(f".*.{failure.pid}.tmp"):
        leftover.unlink()
    shutil.rmtree(scratch_of(settings.fetch.scratch, failure.pid), ignore_errors=True)
    return SourceResult(reason=failure.reason, detail=failure.detail)


def _version_of(location: Location) -> tuple[str, Signature] | None:
    """Key and signature under which the hash of a remote file or a tar's member is remembered, None when it cannot."""
    match location:
        case RemoteFile(url, size, token, settled) if token and settled:
            return url, [size if size is not None else -1, token]
        case TarMember(RemoteFile() as tar, offset, size):
            whole = _version_of(tar)
            return (f"{whole[0]}#{offset}+{size}", whole[1]) if whole else None
        case TarMember(LocalFile(path), offset, size):
            signature = settled_signature(path)
            return (f"{path}#{offset}+{size}", signature) if signature else None
    return None


def _known_hash(location: Location, cache: HashCache) -> str:
    if isinstance(location, LocalFile):
        return cache.sha256_of_file(location.path)
    version = _version_of(location)
    return cache.get(*version) if version else ""


def _learn(task: SourceTask, result: SourceResult, cache: HashCache) -> None:
    version = _version_of(task.location)
    if version and result.sha256 and not task.sha256:
        cache.put(*version, result.sha256)

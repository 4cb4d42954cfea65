"""Run a stage: skip it when its result exists, else let it write aside and make the result appear whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..config import Config
from .files import exclusive_lock, replace_directory, sha256_text, write_json
from .record import StageRecord, hash_outputs
from .workspace import Workspace

RUN_FILE = "run.json"


class Tracker(Protocol):
    """What a running stage may tell its experiment tracker. Telling must never fail the stage."""

    run_id: str | None

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record metrics at a step."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file or a folder with the run."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Attach tags to the run."""


class NullTracker:
    """Tracks nothing: for tests and library use."""

    run_id: str | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Ignore metrics."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Ignore the file."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Ignore tags."""


class Observer(Protocol):
    """Follows stages: the tracking room implements it with MLflow runs."""

    def started(self, stage: str, config: Config, inputs: Mapping[str, StageRecord]) -> Tracker:
        """A stage begins to work; the tracker returned receives what it reports."""

    def finished(self, tracker: Tracker, record: StageRecord, seconds: float) -> None:
        """A stage ended well."""

    def failed(self, tracker: Tracker, stage: str, error: BaseException) -> None:
        """A stage raised; a KeyboardInterrupt or SystemExit means it was cancelled."""

    def skipped(self, record: StageRecord, run: Mapping[str, Any]) -> None:
        """A stage's result was there already; `run` tells of the run that made it."""


class NullObserver:
    """Follows nothing."""

    def started(self, stage: str, config: Config, inputs: Mapping[str, StageRecord]) -> Tracker:  # noqa: ARG002
        """Return a tracker that ignores all."""
        return NullTracker()

    def finished(self, tracker: Tracker, record: StageRecord, seconds: float) -> None:
        """Ignore."""

    def failed(self, tracker: Tracker, stage: str, error: BaseException) -> None:
        """Ignore."""

    def skipped(self, record: StageRecord, run: Mapping[str, Any]) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Work:
    """What a stage function gets besides configuration and inputs."""

    workspace: Workspace
    out: Path
    """empty folder for the outputs; becomes the payload when the stage returns"""
    scratch: Path
    """folder that survives a failed run, for resuming (training checkpoints); removed on success"""
    tracker: Tracker


@dataclass(frozen=True)
class Outcome:
    """What a stage function returns: the numbers of its record. Its files lie in `Work.out`."""

    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


Inputs = Mapping[str, StageRecord]
StageFunction = Callable[[Any, Inputs, Work], Outcome]


@dataclass(frozen=True)
class Execution:
    """How a stage came to its result."""

    record: StageRecord
    skipped: bool
    seconds: float
    """of the run that made the result, this one or an earlier one"""
    run_id: str | None
    """tracking run that made the result"""


def stage_digest(stage: str, config: Config, code_version: str, inputs: Inputs, external_digest: str) -> str:
    """Name of the work: stage, its slice without how it is done, its code, its inputs, what lies outside records."""
    contents = {name: record.content for name, record in sorted(inputs.items())}
    return sha256_text(json.dumps([stage, config.work_json(), code_version, contents, external_digest]))


def execute(
    stage: str,
    function: StageFunction,
    config: Config,
    inputs: Inputs,
    workspace: Workspace,
    *,
    code_version: str,
    external_digest: str = "",
    cacheable: bool = True,
    observer: Observer | None = None,
) -> Execution:
    """Run `function` unless its result exists; publish the record as the stage's current one.

    The result appears by one rename, so a killed stage leaves no half result; a second process that wants the same
    result waits for the first and then finds it.
    """
    observer = observer or NullObserver()
    digest = stage_digest(stage, config, code_version, inputs, external_digest)
    final = workspace.payload(stage, digest)
    with exclusive_lock(final.with_name(f".{final.name}.lock")):
        if cacheable and (final / "record.json").exists():
            record = StageRecord.load(final / "record.json")
            run = json.loads((final / RUN_FILE).read_text())
            observer.skipped(record, run)
            workspace.publish(record)
            return Execution(record, True, run["seconds"], run["run_id"])
        return _run(stage, function, config, inputs, workspace, digest, code_version, external_digest, observer)


def _run(
    stage: str,
    function: StageFunction,
    config: Config,
    inputs: Inputs,
    workspace: Workspace,
    digest: str,
    code_version: str,
    external_digest: str,
    observer: Observer,
) -> Execution:
    final = workspace.payload(stage, digest)
    out = final.with_name(f".{final.name}.partial")
    scratch = final.with_name(f".{final.name}.scratch")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    start = time.monotonic()
    tracker = observer.started(stage, config, inputs)
    try:
        outcome = function(config, inputs, Work(workspace, out, scratch, tracker))
    except BaseException as error:
        observer.failed(tracker, stage, error)
        raise
    record = StageRecord(
        stage=stage,
        digest=digest,
        payload=workspace.relative(final),
        config=config.model_dump(mode="json"),
        code_version=code_version,
        external_digest=external_digest,
        inputs={name: item.ref() for name, item in sorted(inputs.items())},
        outputs=hash_outputs(out),
        counts=dict(outcome.counts),
        metrics=dict(outcome.metrics),
        notes=dict(outcome.notes),
    )
    seconds = time.monotonic() - start
    record.save(out / "record.json")
    write_json(out / RUN_FILE, {"seconds": round(seconds, 3), "run_id": tracker.run_id})
    replace_directory(out, final)
    shutil.rmtree(scratch, ignore_errors=True)
    workspace.publish(record)
    observer.finished(tracker, record, seconds)
    return Execution(record, False, seconds, tracker.run_id)

"""Follows stages: one nested MLflow run for each stage that works, a link to the earlier run for each that need not."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config import Config
from ..config.tree import TrackingConfig
from ..stages.execute import RUN_FILE, NullTracker, Tracker
from ..stages.record import StageRecord
from ..stages.workspace import Workspace
from .door import MetricSample, Place, open_place
from .process import Status, exit_on_sigterm, follow_machine, status_of
from .provenance import PREFIX, code_tags, flatten, input_tags, process_tags, result_tags
from .tolerance import Tolerance
from .writer import MetricWriter

PARENT_TAG = "mlflow.parentRunId"
MAX_DATASET_DIGEST = 36


class MlflowTracker:
    """The tracker of one running stage. Nothing it does raises, and logging metrics returns at once."""

    def __init__(self, place: Place, run_id: str, tolerance: Tolerance, system_metrics: bool) -> None:
        self.run_id: str | None = run_id
        self.tolerance = tolerance
        self._place, self._run = place, run_id
        self._writer = MetricWriter(self._send)
        self._restore_signal = exit_on_sigterm()
        self._stop_monitor: Callable[[], None] | None = None
        if system_metrics:
            self._stop_monitor = tolerance.attempt("follow the machine", follow_machine, place, run_id)

    def _send(self, samples: list[MetricSample]) -> bool:
        failures = self.tolerance.failures
        self.tolerance.attempt("log metrics", self._place.log_metrics, self._run, samples)
        return self.tolerance.failures == failures

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Queue metrics of a step; they are stored within seconds."""
        now = int(time.time() * 1000)
        for key, value in metrics.items():
            number = self.tolerance.attempt(f"read metric {key!r} as a number", float, value)
            if number is not None:
                self._writer.put([MetricSample(key, number, now, step)])

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or a folder with all in it, to the run's artifacts under `folder`."""
        client = self._place.client
        copy = client.log_artifacts if path.is_dir() else client.log_artifact
        self.tolerance.attempt(f"keep {path.name}", copy, self._run, str(path), artifact_path=folder or None)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Attach tags to the run."""
        self.tolerance.attempt("set tags", self._place.set_tags, self._run, tags)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters of the run, each once."""
        self.tolerance.attempt("log parameters", self._place.log_params, self._run, params)

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as artifact `name`."""
        self.tolerance.attempt(f"keep {name}", self._place.client.log_text, self._run, text, name)

    def close(self, status: Status) -> None:
        """Store what is queued and end the run."""
        self._restore_signal()
        if self._stop_monitor is not None:
            self.tolerance.attempt("stop following the machine", self._stop_monitor)
        lost = self._writer.close()
        if lost:
            self.set_tags({f"{PREFIX}.lost_metrics": str(lost)})
        self.tolerance.attempt("end the run", self._place.client.set_terminated, self._run, status)


def start_run(
    place: Place, name: str, tags: Mapping[str, str], tolerance: Tolerance, system_metrics: bool
) -> MlflowTracker:
    """Create a run called `name` and the tracker that follows it."""
    known = {f"{PREFIX}.stage": name, **code_tags(), **process_tags(), **tags}
    run = place.client.create_run(place.experiment_id, tags=known, run_name=name)
    return MlflowTracker(place, run.info.run_id, tolerance, system_metrics)


class MlflowObserver:
    """Follows the stages of one process; `parent_run_id` is the pipeline's run, None for a stage run by hand."""

    def __init__(self, workspace: Workspace, tracking: TrackingConfig, parent_run_id: str | None = None) -> None:
        """The place is opened by the first stage; a place that cannot be opened then warns and stops nothing."""
        self._workspace, self._tracking, self._parent = workspace, tracking, parent_run_id
        self._tolerance = Tolerance("stages")
        self._place: Place | None = None

    def _open(self) -> Place:
        if self._place is None:
            self._place = open_place(self._workspace, self._tracking)
        return self._place

    def started(self, stage: str, config: Config, inputs: Mapping[str, StageRecord]) -> Tracker:
        """Open the stage's run and log what it works from."""
        tolerance = Tolerance(f"stage {stage}")
        tracker = tolerance.attempt("open its run", self._start, stage, inputs, tolerance)
        if tracker is None:
            return NullTracker()
        values = config.model_dump(mode="json")
        tracker.log_params(flatten(values))
        tracker.log_text(json.dumps(values, indent=2, sort_keys=True), "config.json")
        tolerance.attempt("log its inputs", self._log_datasets, tracker, inputs)
        return tracker

    def _start(self, stage: str, inputs: Mapping[str, StageRecord], tolerance: Tolerance) -> MlflowTracker:
        parent = {PARENT_TAG: self._parent} if self._parent else {}
        return start_run(self._open(), stage, input_tags(inputs) | parent, tolerance, self._tracking.system_metrics)

    def _log_datasets(self, tracker: MlflowTracker, inputs: Mapping[str, StageRecord]) -> None:
        assert tracker.run_id is not None
        log_datasets(self._open(), tracker.run_id, inputs.values())

    def finished(self, tracker: Tracker, record: StageRecord, seconds: float) -> None:
        """Log the record and end the run FINISHED."""
        if not isinstance(tracker, MlflowTracker):
            return
        counts = {f"count.{name}": float(count) for name, count in record.counts.items()}
        tracker.log_metrics({**counts, **record.metrics, "seconds": seconds})
        tracker.set_tags(result_tags(record))
        tracker.log_artifact(self._workspace.resolve(record.payload) / "record.json")
        tracker.close("FINISHED")

    def failed(self, tracker: Tracker, stage: str, error: BaseException) -> None:  # noqa: ARG002 - the run knows it
        """End the run FAILED, or KILLED when the stage was cancelled, with the error kept."""
        if not isinstance(tracker, MlflowTracker):
            return
        tracker.set_tags({f"{PREFIX}.error": f"{type(error).__name__}: {error}"})
        tracker.log_text("".join(traceback.format_exception(error)), "error.txt")
        tracker.close(status_of(error))

    def skipped(self, record: StageRecord, run: Mapping[str, Any]) -> None:
        """Link the run that made the result in the pipeline's run; a stage by itself has nothing to link from."""
        parent = self._parent
        if parent:
            self._tolerance.attempt(f"link the earlier run of {record.stage}", self._link, parent, record, run)

    def _link(self, parent_run_id: str, record: StageRecord, run: Mapping[str, Any]) -> None:
        link_cached(self._open(), parent_run_id, record, run)


def link_cached(place: Place, parent_run_id: str, record: StageRecord, run: Mapping[str, Any]) -> None:
    """Note in the pipeline's run that `record` came from an earlier run: tag `soundstage.cached.<stage>` and a file."""
    note = {
        "stage": record.stage,
        "digest": record.digest,
        "content": record.content,
        "payload": record.payload,
        "run_id": run["run_id"],
        "seconds_then": run["seconds"],
    }
    place.set_tags(parent_run_id, {f"{PREFIX}.cached.{record.stage}": run["run_id"] or "not tracked"})
    text = json.dumps(note, indent=2, sort_keys=True)
    place.client.log_text(parent_run_id, text, f"cached/{record.stage}.json")


def annotate_cached(
    workspace: Workspace, tracking: TrackingConfig, parent_run_id: str, records: Iterable[StageRecord]
) -> dict[str, str | None]:
    """Link the earlier runs of stages that a scheduler's cache skipped, where no process of ours ran.

    Records of stages that did run under this parent are left out, so all records of a pipeline may be given.
    Returns stage -> run id of the linked ones.
    """
    tolerance = Tolerance("cached stages")
    linked: dict[str, str | None] = {}

    def link(place: Place, record: StageRecord) -> None:
        run = json.loads((workspace.resolve(record.payload) / RUN_FILE).read_text())
        if not _is_child(place, run["run_id"], parent_run_id):
            link_cached(place, parent_run_id, record, run)
            linked[record.stage] = run["run_id"]

    place = tolerance.attempt("open the tracking place", open_place, workspace, tracking)
    if place is not None:
        for record in records:
            tolerance.attempt(f"link the earlier run of {record.stage}", link, place, record)
    return linked


def _is_child(place: Place, run_id: str | None, parent_run_id: str) -> bool:
    if run_id is None:
        return False
    tags = place.client.get_run(run_id).data.tags
    return bool(tags.get(PARENT_TAG) == parent_run_id)


def log_datasets(place: Place, run_id: str, records: Iterable[StageRecord]) -> None:
    """Log each input record as a dataset of the run: its stage, its content hash, where it lies and its counts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for record in records:
        dataset = Dataset(
            name=record.stage,
            digest=record.content[:MAX_DATASET_DIGEST],
            source_type="workspace",
            source=json.dumps({"payload": record.payload, "digest": record.digest}),
            profile=json.dumps(record.counts),
        )
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", record.stage)]))
    if inputs:
        place.client.log_inputs(run_id, datasets=inputs)

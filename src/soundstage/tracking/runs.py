"""The run of a whole pipeline: the parent under which the stages' runs nest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from ..config import SoundstageConfig
from ..errors import GateRefused
from ..stages.workspace import Workspace
from .door import Place, open_place
from .observer import PARENT_TAG, MlflowObserver, MlflowTracker, annotate_cached, start_run
from .process import Status, status_of
from .provenance import HOST_TAG, PREFIX, config_hash, flatten, git_tags, is_running, process_tags
from .tolerance import Tolerance

__all__ = ["MlflowObserver", "PipelineRun", "annotate_cached"]

_RUNNING = "attributes.status = 'RUNNING'"


class PipelineRun:
    """One pipeline run in MLflow. As a context manager it ends FINISHED, FAILED or KILLED as the block ends.

    with PipelineRun.open(workspace, config, run_id) as run:
        observer = MlflowObserver(workspace, config.tracking, run.mlflow_run_id)
    """

    def __init__(self, place: Place, tracker: MlflowTracker) -> None:
        self._place, self.tracker = place, tracker
        assert tracker.run_id is not None
        self.mlflow_run_id: str = tracker.run_id

    @staticmethod
    def open(
        workspace: Workspace, config: SoundstageConfig, run_id: str, tags: Mapping[str, str] | None = None
    ) -> PipelineRun:
        """Open the run and log the resolved configuration; runs that a killed process of this host left are closed.

        Raises:
            ConfigError: the tracking place cannot be opened.
        """
        place = open_place(workspace, config.tracking)
        tolerance = Tolerance(f"pipeline run {run_id}")
        tolerance.attempt("close runs of killed processes", close_abandoned, place)
        known = {
            f"{PREFIX}.run_id": run_id,
            f"{PREFIX}.preset": config.preset,
            f"{PREFIX}.trial": str(config.trial).lower(),
            f"{PREFIX}.config": config_hash(config),
            f"{PREFIX}.workspace": str(workspace.root),
            **git_tags(workspace.root, f"{PREFIX}.workspace_git"),
            **(tags or {}),
        }
        tracker = start_run(place, "pipeline", known, tolerance, config.tracking.system_metrics)
        tracker.set_tags({"mlflow.runName": run_id})
        values = config.model_dump(mode="json")
        tracker.log_params(flatten(values))
        tracker.log_text(yaml.safe_dump(values, sort_keys=True), "config.yaml")
        return PipelineRun(place, tracker)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of the pipeline."""
        self.tracker.log_metrics(metrics, step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file or folder with the pipeline's run."""
        self.tracker.log_artifact(path, folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Attach tags to the pipeline's run."""
        self.tracker.set_tags(tags)

    def close(self, status: Status) -> None:
        """End the run; a stage's run that its process could not end, having been killed, ends FAILED or KILLED too."""
        left = "KILLED" if status == "KILLED" else "FAILED"
        self.tracker.tolerance.attempt("end runs of stages", self._close_children, left)
        self.tracker.close(status)

    def _close_children(self, status: str) -> None:
        for run in _search(self._place, f"tags.`{PARENT_TAG}` = '{self.mlflow_run_id}' and {_RUNNING}"):
            _abandon(self._place, run.info.run_id, status, "the pipeline ended before this stage said how it ended")

    def __enter__(self) -> PipelineRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.set_tags({f"{PREFIX}.error": f"{type(error).__name__}: {error}"})
        # A gate that says no has done its work: the run is whole, the verdict stands in its tags.
        self.close("FINISHED" if isinstance(error, GateRefused) else status_of(error))


def close_abandoned(place: Place) -> int:
    """End as KILLED the runs that processes of this host left RUNNING when they were killed; returns how many."""
    host = process_tags()[HOST_TAG]
    left = [
        run for run in _search(place, f"tags.`{HOST_TAG}` = '{host}' and {_RUNNING}") if not is_running(run.data.tags)
    ]
    for run in left:
        _abandon(place, run.info.run_id, "KILLED", "its process is gone; closed by a later run")
    return len(left)


def _abandon(place: Place, run_id: str, status: str, reason: str) -> None:
    place.set_tags(run_id, {f"{PREFIX}.error": reason})
    place.client.set_terminated(run_id, status)


def _search(place: Place, condition: str) -> list[Any]:
    return list(place.client.search_runs([place.experiment_id], condition, max_results=1000))

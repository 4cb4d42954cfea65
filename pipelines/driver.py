"""Run the training pipeline on this machine, from a configuration to a summary that accounts for all of it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from soundstage import errors, front
from soundstage.catalog import STAGES
from soundstage.config import SoundstageConfig
from soundstage.errors import SoundstageError
from soundstage.stages import StageRecord, Workspace
from soundstage.stages.files import write_json, write_text

from . import cache, local
from .plan import Plan
from .summary import StageTime, stage_time, summarise

PLOTS_FOLDER = "plots"
_LAST_LINES = 12


@dataclass(frozen=True)
class PipelineResult:
    """A pipeline run that reached its end: every stage has a result, whoever made it."""

    run_id: str
    run_dir: Path
    records: Mapping[str, StageRecord]
    times: list[StageTime]
    summary: dict[str, Any]


def run_pipeline(config: SoundstageConfig, workspace: Workspace, *, no_cache: bool = False) -> PipelineResult:
    """Run all stages through kfp's local runner, in subprocesses; finished ones are found, not repeated.

    Writes config.yaml, events.jsonl, log.txt, summary.json, report.html and plots to `runs/<id>/`, summary and report
    to the workspace as well. The gate's verdict is in the summary; refusing is the caller's part.

    Raises:
        SoundstageError: a stage failed; its error is raised again as its own class, with stage and log named.
        KeyboardInterrupt: the run was cancelled; its processes have ended, its tracking runs are KILLED.
    """
    from soundstage.tracking.runs import PipelineRun

    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    run_dir = workspace.runs / run_id
    run_dir.mkdir(parents=True)
    write_text(run_dir / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    print(f"run {run_id} in workspace {workspace.root}", flush=True)
    with PipelineRun.open(workspace, config, run_id) as run:
        plan = Plan.of(config, workspace)
        cache.settle(workspace, forget=no_cache)
        environment = _environment(config, workspace, run_dir, run.mlflow_run_id, no_cache)
        try:
            with _set(environment):
                _run_tasks(plan, workspace, run_dir)
        finally:
            cache.remember(workspace, front.read_events(run_dir))
        result = _account(config, plan, workspace, run_dir, run.mlflow_run_id)
        run.set_tags({"soundstage.verdict": "promoted" if result.summary["promoted"] else "refused"})
        run.log_metrics({f"seconds/{item.stage}": item.seconds for item in result.times if item.ran})
        for name in ("summary.json", "report.html", local.LOG_FILE):
            run.log_artifact(run_dir / name)
        run.log_artifact(run_dir / PLOTS_FOLDER, PLOTS_FOLDER)
    return result


def _environment(
    config: SoundstageConfig, workspace: Workspace, run_dir: Path, parent_run_id: str, no_cache: bool
) -> dict[str, str]:
    return {
        "SOUNDSTAGE_WORKSPACE": str(workspace.root),
        front.RUN_DIR: str(run_dir),
        front.PARENT_RUN: parent_run_id,
        front.FRESH: "1" if no_cache else "0",
        **front.tracking_environment(config.tracking),
    }


@contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_tasks(plan: Plan, workspace: Workspace, run_dir: Path) -> None:
    log_path = run_dir / local.LOG_FILE
    try:
        local.run_training_pipeline(plan.arguments(), workspace.kfp, log_path)
    except local.TaskFailedError as failure:
        raise _cause(failure.task, run_dir, log_path) from failure


def _cause(task: str, run_dir: Path, log_path: Path) -> SoundstageError:
    """The error of the failed task, of its own class; kfp tells only which task it was."""
    events = front.read_events(run_dir)
    for event in reversed(events):
        if event["event"] == "failed":
            return _error_class(event["error"])(f"stage {event['stage']} failed: {event['message']}\nlog: {log_path}")
    said = log_path.read_text(encoding="utf-8").rpartition(f"== {task}\n")[2]
    last = "\n  ".join(said.splitlines()[-_LAST_LINES:])
    return SoundstageError(
        f"stage {task} ended without a reason, as a process does that is killed (memory?); its last lines:\n  {last}\n"
        f"log: {log_path}"
    )


def _error_class(name: str) -> type[SoundstageError]:
    """The class called `name` if it is one of ours, else their base: a defect, told by its traceback."""
    found = getattr(errors, name, SoundstageError)
    assert issubclass(found, SoundstageError)
    return found


def _account(
    config: SoundstageConfig, plan: Plan, workspace: Workspace, run_dir: Path, mlflow_run_id: str
) -> PipelineResult:
    """Find every stage's record, publish and link those that kfp's cache skipped, and write summary and report."""
    from soundstage.tracking.runs import annotate_cached

    records = plan.results(workspace)
    lost = [stage for stage in STAGES if stage not in records]
    if lost:
        raise SoundstageError(
            f"the pipeline ended well, but the workspace holds no result of {', '.join(lost)} for this configuration; "
            "something changed the workspace meanwhile: run again with --no-cache"
        )
    finished = {event["stage"]: event for event in front.read_events(run_dir) if event["event"] == "finished"}
    for stage, record in records.items():
        if stage not in finished:
            workspace.publish(record)
    annotate_cached(workspace, config.tracking, mlflow_run_id, records.values())
    times = [stage_time(workspace, record, finished.get(stage)) for stage, record in records.items()]
    summary = summarise(workspace, config.tracking, records, times, run_dir)
    _report(workspace, records, summary, run_dir)
    for folder in (workspace.root, run_dir):
        write_json(folder / "summary.json", summary)
    return PipelineResult(run_dir.name, run_dir, records, times, summary)


def _report(workspace: Workspace, records: Mapping[str, StageRecord], summary: dict[str, Any], run_dir: Path) -> None:
    from soundstage.evaluation.report import plot_files, write_report

    plot_files(workspace, records, run_dir / PLOTS_FOLDER)
    write_report(workspace, records, summary, workspace.root / "report.html")
    shutil.copyfile(workspace.root / "report.html", run_dir / "report.html")

"""What all front doors share: a stage, told in strings and paths, becomes one call of the catalogue.

The command line and DVC come in by `run_current` (inputs are the workspace's current results), Kubeflow by
`run_component` (inputs are artifacts). Both leave the same payload, manifest and tracking run.

Environment variables, none of which reaches a result:

    SOUNDSTAGE_WORKSPACE       root folder of the workspace
    SOUNDSTAGE_RUN_DIR         folder of the pipeline run; stages append to its events.jsonl
    SOUNDSTAGE_PARENT_RUN      tracking run under which stages nest theirs
    SOUNDSTAGE_TRACKING_URI    MLflow URI; unset is SQLite inside the workspace
    SOUNDSTAGE_EXPERIMENT      MLflow experiment
    SOUNDSTAGE_SYSTEM_METRICS  0 switches system metrics off
    SOUNDSTAGE_FRESH           1 runs stages although their results exist
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .catalog import STAGES, Stage, find_stage, run_stage
from .config import Config, SoundstageConfig, parse
from .config.tree import TrackingConfig
from .errors import ConfigError, DataError, SoundstageError
from .stages import Execution, Observer, StageRecord, Workspace

RUN_DIR = "SOUNDSTAGE_RUN_DIR"
PARENT_RUN = "SOUNDSTAGE_PARENT_RUN"
TRACKING_URI = "SOUNDSTAGE_TRACKING_URI"
EXPERIMENT = "SOUNDSTAGE_EXPERIMENT"
SYSTEM_METRICS = "SOUNDSTAGE_SYSTEM_METRICS"
FRESH = "SOUNDSTAGE_FRESH"
EVENTS_FILE = "events.jsonl"

TRAINING_STAGES = ("backbone", "pretrain", "finetune")
SCORER_STAGES = ("curator", "judge")


def cli_command(stage: str) -> str:
    """The command that runs `stage`: `soundstage train pretrain`, `soundstage validate clips`, `soundstage score`."""
    if stage in TRAINING_STAGES:
        return f"soundstage train {stage}"
    if stage in SCORER_STAGES:
        return f"soundstage train scorer --role {stage}"
    return "soundstage " + stage.replace("validate-", "validate ")


def slice_class(stage: Stage) -> type[Config]:
    """Class of the configuration slice that `stage` reads."""
    return type(stage.slice_of(SoundstageConfig()))


def tracking_environment(config: TrackingConfig) -> dict[str, str]:
    """Environment variables that tell `config` to stages in other processes; an empty value means unset."""
    return {
        TRACKING_URI: config.uri or "",
        EXPERIMENT: config.experiment,
        SYSTEM_METRICS: "1" if config.system_metrics else "0",
    }


def tracking_from_environment() -> TrackingConfig:
    """The tracking configuration that `tracking_environment` told."""
    default = TrackingConfig()
    return TrackingConfig(
        uri=os.environ.get(TRACKING_URI) or None,
        experiment=os.environ.get(EXPERIMENT) or default.experiment,
        system_metrics=os.environ.get(SYSTEM_METRICS, "1") != "0",
    )


def run_component(
    stage: str,
    config: str,
    code_version: str,
    inputs: Mapping[str, str],
    record_path: str,
    inputs_digest: str = "",
) -> dict[str, str]:
    """Run `stage` inside a pipeline task; write its record to `record_path`; return the artifact's metadata.

    `config` is the slice as JSON, `code_version` the stage's fingerprint at submission, `inputs` name -> path of a
    record file, `inputs_digest` what `catalog.external_digest` gave at submission.

    A refusal (an unusable slice, other code than the submitter's, whatever the stage refuses) ends the process with
    the error's exit code: its message is in the task's log and in the run's events.
    """
    # kfp's executor makes every library talkative.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("soundstage").setLevel(logging.INFO)
    with _reported(stage):
        definition = find_stage(stage)
        _check_code(definition, code_version)
        parsed = parse(slice_class(definition), json.loads(config), origin=f"pipeline parameter of {stage}")
        records = {name: StageRecord.load(Path(path)) for name, path in inputs.items()}
        workspace = Workspace.open()
        observer = make_observer(workspace, tracking_from_environment())
        execution = run_observed(stage, parsed, records, workspace, observer, external=inputs_digest)
        execution.record.save(Path(record_path))
    return {"digest": execution.record.digest, "content": execution.record.content}


def run_current(stage: str, config: SoundstageConfig, workspace: Workspace, *, fresh: bool = False) -> Execution:
    """Run `stage` on the current results of the stages before it.

    Raises:
        DataError: a stage before it has not run in this workspace; its command is named.
        SoundstageError: whatever the stage refuses.
    """
    definition = find_stage(stage)
    records = {name: current_record(workspace, source) for name, source in definition.inputs.items()}
    observer = make_observer(workspace, config.tracking)
    return run_observed(stage, definition.slice_of(config), records, workspace, observer, fresh=fresh)


def run_observed(
    stage: str,
    config: Config,
    inputs: Mapping[str, StageRecord],
    workspace: Workspace,
    observer: Observer | None,
    *,
    external: str | None = None,
    fresh: bool = False,
) -> Execution:
    """Run one stage; say on standard output, and in the run's events, how it ended."""
    again = fresh or os.environ.get(FRESH) == "1"
    print(f"== {stage}", flush=True)
    log_event({"event": "started", "stage": stage})
    execution = run_stage(stage, config, inputs, workspace, external=external, observer=observer, fresh=again)
    log_event(
        {
            "event": "finished",
            "stage": stage,
            "digest": execution.record.digest,
            "content": execution.record.content,
            "skipped": execution.skipped,
            "seconds": round(execution.seconds, 3),
            "run_id": execution.run_id,
        }
    )
    print(describe(execution), flush=True)
    return execution


def require_verdict(workspace: Workspace, promotion: StageRecord, *, trial: bool) -> None:
    """Turn the gate's refusal into an error; a trial is judged, but nobody expects its model to be promoted.

    Raises:
        GateRefused: some rule failed; each is listed.
    """
    if not trial:
        from .tracking.promote import require_promoted

        require_promoted(json.loads(workspace.output(promotion, "verdict.json").read_text()))


def current_record(workspace: Workspace, stage: str) -> StageRecord:
    """The current record of `stage`.

    Raises:
        DataError: it has not run here; the command that runs it is named.
    """
    if not (workspace.manifest(stage) / "record.json").exists():
        raise DataError(
            f"stage {stage!r} has no result in workspace {workspace.root} yet; run `{cli_command(stage)}` first, "
            "or `soundstage pipeline run` for all stages"
        )
    return workspace.current(stage)


def make_observer(workspace: Workspace, tracking: TrackingConfig) -> Observer:
    """The observer that follows stages as MLflow runs, below the pipeline's run when there is one."""
    from .tracking.runs import MlflowObserver

    return MlflowObserver(workspace, tracking, os.environ.get(PARENT_RUN) or None)


def describe(execution: Execution) -> str:
    """A line or two on how a stage came to its result and what it counted."""
    record = execution.record
    how = (
        f"unchanged: made by an earlier run in {execution.seconds:.1f} s"
        if execution.skipped
        else f"ran in {execution.seconds:.1f} s"
    )
    numbers = [f"{name} {value}" for name, value in record.counts.items()]
    numbers += [f"{name} {value:.4g}" for name, value in record.metrics.items()]
    lines = [f"{record.stage}: {how}"]
    if numbers:
        lines.append("  " + ", ".join(numbers))
    lines += [f"  {name}: {text}" for name, text in record.notes.items() if "\n" not in text]
    return "\n".join(lines)


def log_event(event: Mapping[str, Any]) -> None:
    """Append one line to the run's events; without a pipeline run there is nowhere to write."""
    folder = os.environ.get(RUN_DIR)
    if folder:
        with (Path(folder) / EVENTS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event, ensure_ascii=False) + "\n")


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """The events of a run, in order; none when no stage began."""
    path = run_dir / EVENTS_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def code_versions() -> dict[str, str]:
    """Fingerprint of the code behind every stage."""
    return {name: stage.code_version() for name, stage in STAGES.items()}


@contextmanager
def _reported(stage: str) -> Iterator[None]:
    """Write the reason of a failure to the run's events: the scheduler tells only that a task failed."""
    try:
        yield
    except SoundstageError as error:
        log_event({"event": "failed", "stage": stage, "error": type(error).__name__, "message": str(error)})
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        trace = "".join(traceback.format_exception(error, limit=-4)).strip()
        log_event({"event": "failed", "stage": stage, "error": type(error).__name__, "message": trace})
        raise


def _check_code(stage: Stage, submitted: str) -> None:
    here = stage.code_version()
    if here != submitted:
        raise ConfigError(
            f"this process runs code {here} of stage {stage.name}, the pipeline was submitted from code {submitted}; "
            "use the image built from the submitter's code; if the source was edited meanwhile, submit again"
        )

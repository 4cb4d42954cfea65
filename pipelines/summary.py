"""The summary of a pipeline run: what went in, what was kept, what was measured, what was decided, how long it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundstage.config.tree import TrackingConfig
from soundstage.stages import StageRecord, Workspace
from soundstage.stages.execute import RUN_FILE

from . import local

_REJECT = "reject_"


@dataclass(frozen=True)
class StageTime:
    """How a stage came to its result in a run, and how long making it took."""

    stage: str
    ran: bool
    seconds: float
    """of the run that made the result: this one, or an earlier one"""

    @property
    def how(self) -> str:
        """In words."""
        return "ran" if self.ran else "unchanged: made by an earlier run"


def stage_time(workspace: Workspace, record: StageRecord, finished: Mapping[str, Any] | None) -> StageTime:
    """Time of one stage; `finished` is its event, None when kfp's cache answered and no process started."""
    made = json.loads((workspace.resolve(record.payload) / RUN_FILE).read_text())
    ran = finished is not None and not finished["skipped"]
    return StageTime(record.stage, ran, float(made["seconds"]))


def summarise(
    workspace: Workspace,
    tracking: TrackingConfig,
    records: Mapping[str, StageRecord],
    times: Sequence[StageTime],
    run_dir: Path,
) -> dict[str, Any]:
    """Build the summary from the records of all stages."""
    evaluation = _load(workspace, records["evaluate"], "evaluation.json")
    verdict = _load(workspace, records["promote"], "verdict.json")
    return {
        "run": run_dir.name,
        "clips": _clips(records["ingest"]),
        "selection": _load(workspace, records["select"], "funnel.json"),
        "metrics": evaluation["metrics"],
        "paired": evaluation.get("paired", {}),
        "model": _model(workspace, tracking, records["register"]),
        "promoted": verdict["promoted"],
        "verdict": verdict,
        "seconds": {item.stage: round(item.seconds, 1) for item in times},
        "ran": [item.stage for item in times if item.ran],
        "code": _code(),
        "paths": _paths(workspace, run_dir),
    }


def _load(workspace: Workspace, record: StageRecord, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(workspace.output(record, name).read_text())
    return values


def _clips(ingest: StageRecord) -> dict[str, Any]:
    counts = ingest.counts
    rejects = {name.removeprefix(_REJECT): n for name, n in counts.items() if name.startswith(_REJECT) and n}
    return {"sources": counts["sources"], "clips": counts["clips"], "rejects": rejects}


def _model(workspace: Workspace, tracking: TrackingConfig, registration: StageRecord) -> dict[str, Any]:
    from soundstage.tracking.registry import registered

    model = _load(workspace, registration, "model.json")
    # The record was written before the gate moved an alias: the registry knows the aliases of now.
    aliases = [v.aliases for v in registered(workspace, tracking, model["name"]) if v.version == model["version"]]
    return {"name": model["name"], "version": model["version"], "aliases": [*aliases[0]], "uri": model["model_uri"]}


def _code() -> dict[str, str]:
    """Version and source hash of the running code, and its git commit in a checkout."""
    from soundstage.tracking.provenance import PREFIX, code_tags

    return {name.removeprefix(f"{PREFIX}."): value for name, value in code_tags().items() if name.startswith(PREFIX)}


def _paths(workspace: Workspace, run_dir: Path) -> dict[str, str]:
    return {
        "workspace": str(workspace.root),
        "summary": str(workspace.root / "summary.json"),
        "report": str(workspace.root / "report.html"),
        "log": str(run_dir / local.LOG_FILE),
        "tracking": str(workspace.tracking),
    }

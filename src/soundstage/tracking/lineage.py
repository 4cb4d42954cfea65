"""What a model version says of itself: where it comes from and how well it did, as tags of the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..data.records import CLIPS, SELECTION, read_table
from ..stages.execute import Inputs
from ..stages.files import sha256_text
from ..stages.record import StageRecord
from ..stages.workspace import Workspace
from .folders import ADAPTER_CONFIG_FILE, ADAPTER_FOLDER
from .gate import number
from .provenance import PREFIX

IDENTITY = f"{PREFIX}.identity"
COMPARABLE = f"{PREFIX}.comparable"
METRICS = f"{PREFIX}.motion_corr"
TRAINING_USES = ("pretrain", "finetune")
# Settings of an evaluation that change how it is computed or shown, not what is measured.
_NOT_MEASURED = frozenset({"batch", "bootstrap_samples", "samples_shown"})


@dataclass(frozen=True)
class Candidate:
    """A trained and evaluated model, told by the records of its stages."""

    evaluation: dict[str, Any]
    trainable_share: float | None
    stage_two: str
    """empty, or why there was no stage two"""
    identity: str
    """equal for equal backbone, adapter, evaluation and serving code"""
    comparable: str
    tags: dict[str, str]


def describe_candidate(workspace: Workspace, inputs: Inputs, serving_code: str) -> Candidate:
    """Collect what the version shall say of itself."""
    evaluation_file = workspace.output(inputs["evaluation"], "evaluation.json")
    evaluation: dict[str, Any] = json.loads(evaluation_file.read_text())
    share = trainable_share(workspace, inputs["finetune"])
    comparable = comparison_key(evaluation, workspace.output(inputs["evaluation"], "scores.parquet"))
    parts = [inputs[name].content for name in ("backbone", "finetune", "evaluation")]
    identity = sha256_text(json.dumps([*parts, serving_code]))
    tags = {
        IDENTITY: identity,
        COMPARABLE: comparable,
        METRICS: json.dumps(evaluation["metrics"]["motion_corr"], sort_keys=True),
        f"{PREFIX}.test_clips": str(evaluation["clips"]),
        f"{PREFIX}.trainable_share": "unknown" if share is None else f"{share:.6f}",
        f"{PREFIX}.licences": json.dumps(training_licences(workspace, inputs["clips"], inputs["selection"])),
        **{f"{PREFIX}.stage.{record.stage}": record.digest for record in inputs.values()},
        **{f"{PREFIX}.content.{record.stage}": record.content for record in inputs.values()},
    }
    return Candidate(evaluation, share, inputs["finetune"].notes.get("stage_two", ""), identity, comparable, tags)


def comparison_key(evaluation: Mapping[str, Any], scores: Path) -> str:
    """Hash of the protocol and of the test clips: two evaluations may be compared if and only if theirs are equal."""
    clip_ids = sorted(set(pq.read_table(scores, columns=["clip_id"]).column(0).to_pylist()))
    protocol = {name: value for name, value in evaluation["protocol"].items() if name not in _NOT_MEASURED}
    return sha256_text(json.dumps([protocol, clip_ids], sort_keys=True))


def trainable_share(workspace: Workspace, finetune: StageRecord) -> float | None:
    """New trainable parameters over those of the frozen transformer, as the trainer measured it."""
    measured = number(finetune.metrics, "trainable_share")
    if measured is None:
        stated = json.loads(workspace.output(finetune, f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG_FILE}").read_text())
        measured = number(stated, "trainable_share")
    return measured


def training_licences(workspace: Workspace, clips: StageRecord, selection: StageRecord) -> dict[str, int]:
    """Licences of the clips that training saw, and how many clips are under each."""
    selected = read_table(workspace.output(selection, "selection.parquet"), SELECTION)
    used = {row["clip_id"] for row in selected if row["use"] in TRAINING_USES}
    counts: dict[str, int] = {}
    for row in read_table(workspace.output(clips, "clips.parquet"), CLIPS):
        if row["clip_id"] in used:
            counts[row["licence"]] = counts.get(row["licence"], 0) + 1
    return dict(sorted(counts.items()))


def numeric_leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Finite numbers of a nested mapping by dotted path."""
    leaves: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves |= numeric_leaves(value, f"{prefix}{key}.")
        elif (found := number(values, key)) is not None:
            leaves[f"{prefix}{key}"] = found
    return leaves


def summary_line(candidate: Candidate) -> str:
    """The evaluation in one line, for the version's description."""
    parts = []
    for name, value in candidate.evaluation["metrics"]["motion_corr"].items():
        mean = number(value, "mean")
        parts.append(f"{name} {'not measured' if mean is None else format(mean, '.3f')}")
    return f"motion correlation over {candidate.evaluation['clips']} unseen clips: {', '.join(parts)}"

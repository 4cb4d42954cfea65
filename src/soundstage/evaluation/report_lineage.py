"""The report's last part: the chain of stages from sources to model, and what a reader must know of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..stages import StageRecord, Workspace
from .report_numbers import grouped, seconds

_DIGITS = 12
_PREDICTIONS = {"clean_residual": "the clean clip as a residual on the first frame"}


@dataclass(frozen=True)
class StageLine:
    """One stage of the chain, ready to print."""

    stage: str
    reads: list[str]
    digest: str
    content: str
    ran: bool
    seconds: str
    counts: str
    notes: list[tuple[str, str]]


@dataclass(frozen=True)
class Fact:
    """A name and what it names."""

    name: str
    value: str


@dataclass(frozen=True)
class Lineage:
    """The last part, ready to print."""

    stages: list[StageLine]
    facts: list[Fact]
    caveats: list[str]


def lineage(workspace: Workspace, records: Mapping[str, StageRecord], summary: Mapping[str, Any]) -> Lineage:
    """The chain, the hashes that name the model, and the caveats that the records themselves state."""
    ran = set(summary.get("ran", ()))
    took = summary.get("seconds", {})
    about = _read(workspace, records["backbone"], "backbone/backbone.json")
    return Lineage(
        stages=[_stage_line(stage, record, stage in ran, took.get(stage)) for stage, record in records.items()],
        facts=_facts(records, summary, about),
        caveats=_caveats(records, about),
    )


def _stage_line(stage: str, record: StageRecord, ran: bool, took: Any) -> StageLine:
    counts = ", ".join(f"{name} {grouped(count)}" for name, count in record.counts.items() if count)
    return StageLine(
        stage=stage,
        reads=[item.stage for item in record.inputs.values()],
        digest=record.digest[:_DIGITS],
        content=record.content[:_DIGITS],
        ran=ran,
        seconds=seconds(took),
        counts=counts,
        notes=sorted(record.notes.items()),
    )


def _facts(records: Mapping[str, StageRecord], summary: Mapping[str, Any], about: Mapping[str, Any]) -> list[Fact]:
    model, code = summary["model"], summary.get("code", {})
    facts = [Fact("model", str(model.get("uri", "")))]
    adapter = records["finetune"].outputs.get("adapter/adapter.safetensors")
    if adapter is not None:
        facts.append(Fact("adapter weights, SHA-256", adapter.sha256))
    if "fingerprint" in about:
        facts.append(Fact("backbone fingerprint", str(about["fingerprint"])))
    if code.get("git_commit"):
        changed = " with uncommitted changes" if code.get("git_dirty") == "true" else ""
        facts.append(Fact("git commit of the code", f"{code['git_commit']}{changed}"))
    elif code.get("source"):
        facts.append(Fact("hash of the code (no git checkout)", str(code["source"])))
    facts.append(Fact("pipeline run", str(summary.get("run", "unknown"))))
    return [fact for fact in facts if fact.value]


def _caveats(records: Mapping[str, StageRecord], about: Mapping[str, Any]) -> list[str]:
    return [*_reviewer(records["review"]), *_backbone(about), *_stage_two(records["finetune"])]


def _reviewer(review: StageRecord) -> list[str]:
    counts = review.counts
    said = []
    if simulated := counts.get("reviews_simulated", 0):
        said.append(
            f"The reviewer was simulated: {grouped(simulated)} verdicts were written by a program "
            f"({review.notes.get('reviewer', 'no note')}). They are not human effort and prove none."
        )
    human = counts.get("reviews_human", counts.get("reviews", 0) - counts.get("reviews_simulated", 0))
    spent = seconds(counts.get("human_seconds", 0))
    said.append(f"Human effort behind this model: {grouped(human)} verdicts by people, {spent} of their time.")
    return said


def _backbone(about: Mapping[str, Any]) -> list[str]:
    said = []
    if about.get("stand_in"):
        said.append(
            f"The backbone is a stand-in: a small transformer of the {about.get('family', 'unknown')} family that this "
            "pipeline trained by itself, on video alone, not a pretrained video generator."
        )
    if about.get("preconditioned"):
        prediction = str(about.get("prediction", "unknown"))
        said.append(
            f"The stand-in is preconditioned: it predicts {_PREDICTIONS.get(prediction, prediction)}, "
            "not a velocity as pretrained video generators do."
        )
    return said


def _stage_two(finetune: StageRecord) -> list[str]:
    note = finetune.notes.get("stage_two")
    return [f"Stage two: {note}."] if note else []


def _read(workspace: Workspace, record: StageRecord, name: str) -> dict[str, Any]:
    if name not in record.outputs:
        return {}
    values: dict[str, Any] = json.loads(workspace.output(record, name).read_text())
    return values

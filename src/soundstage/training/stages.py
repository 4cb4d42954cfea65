"""Stages `backbone`, `pretrain` and `finetune`: jobs of the one trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

from ..config.slices import TrainSlice
from ..data.shards import INDEX_FILE
from ..errors import ConfigError
from ..models.backbones.load import reference_pretrained
from ..models.bundle import CARD_FILE, describe_adapter
from ..models.conditioned import parameter_count
from ..stages import Inputs, Outcome, Work, code_version
from .follow import run_job
from .job import TrainingJob


def train_backbone(config: TrainSlice, inputs: Inputs, work: Work) -> Outcome:
    """Name the configured checkpoint, or train the stand-in backbone on video alone.

    Raises:
        ConfigError: a replay share is configured, which stage two alone has.
    """
    _refuse_replay("backbone", config)
    if config.model.backbone.pretrained is not None:
        made = reference_pretrained(config.model.backbone, work.out / "backbone")
        (work.out / "curves.json").write_text('{"train": [], "validation": []}\n')
        parameters = {"backbone_parameters": float(parameter_count(made.transformer))}
        note = f"pretrained: {made.origin}, {made.licence}, fingerprint {made.fingerprint[:16]}"
        return Outcome(counts={"steps": 0}, metrics=parameters, notes={"backbone": note})
    return _train("backbone", config, inputs, work, use="pretrain", initial=None)


def pretrain(config: TrainSlice, inputs: Inputs, work: Work) -> Outcome:
    """Stage one: adapters on the large, automatically curated set.

    Raises:
        ConfigError: a replay share is configured, which stage two alone has.
    """
    _refuse_replay("pretrain", config)
    return _train("pretrain", config, inputs, work, use="pretrain", initial=None)


def finetune(config: TrainSlice, inputs: Inputs, work: Work) -> Outcome:
    """Stage two: from stage one's adapter, on clips that a person has kept, and by `replay_share` on stage one's.

    Without any such clip the stage passes stage one's adapter on and says so in its notes.
    """
    first = work.workspace.output(inputs["pretrain"], "adapter/adapter.json").parent
    counts = inputs["shards"].counts
    if counts.get("samples_finetune", 0) == 0:
        shutil.copytree(first, work.out / "adapter")
        (work.out / "curves.json").write_text('{"train": [], "validation": []}\n')
        note = "skipped: no clip has a keep verdict of a reviewer; the adapter is stage one's"
        return Outcome(counts={"steps": 0}, metrics=_share(work.out), notes={"stage_two": note})
    return _train("finetune", config, inputs, work, use="finetune", initial=first)


def _train(
    stage: Literal["backbone", "pretrain", "finetune"],
    config: TrainSlice,
    inputs: Inputs,
    work: Work,
    use: str,
    initial: Path | None,
) -> Outcome:
    backbone = None
    if "backbone" in inputs:
        backbone = work.workspace.output(inputs["backbone"], "backbone/backbone.json").parent
    counts = inputs["shards"].counts
    job = TrainingJob(
        stage=stage,
        config=config,
        shards=work.workspace.output(inputs["shards"], INDEX_FILE).parent,
        use=use,
        backbone=backbone,
        initial_adapter=initial,
        out=work.out,
        scratch=work.scratch,
        code=code_version(__name__),
    )
    run_job(job, work.tracker, work.workspace.root)
    curves = json.loads((work.out / "curves.json").read_text())
    last = {f"final_{name}_loss": points[-1][1] for name, points in curves.items() if points}
    metrics = last if stage == "backbone" else last | _share(work.out)
    if stage != "backbone":
        work.tracker.log_artifact(work.out / "adapter" / CARD_FILE)
    steps = int(curves["train"][-1][0])
    seen = {"steps": steps, "samples": counts.get(f"samples_{use}", 0)}
    if job.replays:
        seen["replay_samples"] = counts.get("samples_pretrain", 0)
    notes = {}
    if steps < config.train.steps:
        notes["early_stop"] = f"ended after {steps} of {config.train.steps} steps: no held-out loss was a new best"
    return Outcome(counts=seen, metrics=metrics, notes=notes)


def _refuse_replay(stage: str, config: TrainSlice) -> None:
    if config.train.replay_share:
        raise ConfigError(
            f"{stage}.replay_share={config.train.replay_share}: replay mixes stage one's samples into stage two, and "
            f"{stage} comes before it; leave it at 0, or set finetune.replay_share"
        )


def _share(out: Path) -> dict[str, float]:
    about = describe_adapter(out / "adapter")
    return {"trainable_share": about["trainable_share"], "trainable_parameters": float(about["trainable_parameters"])}

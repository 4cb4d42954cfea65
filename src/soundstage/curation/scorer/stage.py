"""Stages `curator` and `judge`: train a sync scorer on its split, measure it, and write down whom it was trained on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ...config.slices import ScorerSlice
from ...config.tree import ScorerConfig
from ...data.records import CLIPS, SCORER_GROUPS, read_table, write_table
from ...errors import DataError
from ...models.sync.scorer import load_scorer, save_scorer
from ...stages.execute import Inputs, Outcome, Work
from ...stages.progress import Progress
from .examples import Example, Roles, assign_roles, load_examples
from .measure import measure_scorer
from .reference import GROUPS_FILE, SCORER_FOLDER
from .train import train_scorer

Role = Literal["curator", "judge"]
SPLIT_OF = {"curator": "pretrain", "judge": "judge"}

log = logging.getLogger(__name__)


def curator(config: ScorerSlice, inputs: Inputs, work: Work) -> Outcome:
    """The scorer that curates, trained on clips of split `pretrain`."""
    return _run("curator", config.scorer, inputs, work)


def judge(config: ScorerSlice, inputs: Inputs, work: Work) -> Outcome:
    """The scorer that judges generated video, trained on clips of split `judge`, which nothing else uses."""
    return _run("judge", config.scorer, inputs, work)


def _run(role: Role, config: ScorerConfig, inputs: Inputs, work: Work) -> Outcome:
    """Write `scorer/` (weights, description, card) and `groups.parquet`; neither when there are too few clips.

    Raises:
        DataError: a clip cannot be decoded, rates of sound differ, or `pretrained` is no scorer.
        TrainingError: the loss is not finite.
    """
    if config.pretrained is not None:
        return _adopt(role, Path(config.pretrained).expanduser(), work)
    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    roles = assign_roles(clips, SPLIT_OF[role], config)
    counts = {
        "clips_trained_on": len(roles.train),
        "clips_held_out": len(roles.held_out),
        "clips_of_held_out_classes": len(roles.held_out_classes),
    }
    if len(roles.train) < config.min_clips:
        found = f"{len(roles.train)} clips of split {SPLIT_OF[role]} can be trained on"
        said = f"none trained: {found}, {role}.min_clips={config.min_clips} are needed"
        log.warning("%s: %s", role, said)
        return Outcome(counts=counts, notes={"scorer": said})
    return _train(role, config, roles, counts, work)


def _train(role: Role, config: ScorerConfig, roles: Roles, counts: dict[str, int], work: Work) -> Outcome:
    torch.set_num_threads(config.threads or torch.get_num_threads())
    sample_rate = _common_rate(role, roles)
    examples = list(load_examples(roles.train, work.workspace, config))
    with Progress(f"train {role}", config.steps, "step") as progress:

        def report(step: int, loss: float) -> None:
            progress.advance(note=f"loss {loss:.3f}")
            work.tracker.log_metrics({"loss": loss}, step=step)

        scorer = train_scorer(examples, config, sample_rate, report)
    measured = {
        **_measured("seen", scorer, roles.held_out, config, work),
        **_measured("held_out", scorer, roles.held_out_classes, config, work),
    }
    about: dict[str, Any] = {"role": role, "split": SPLIT_OF[role], **counts, "measured": measured}
    fingerprint = save_scorer(work.out / SCORER_FOLDER, scorer, about)
    _write_groups(work.out / GROUPS_FILE, examples)
    return Outcome(counts=counts, metrics=measured, notes={"scorer": fingerprint})


def _common_rate(role: Role, roles: Roles) -> int:
    rows = [*roles.train, *roles.held_out, *roles.held_out_classes]
    rates = sorted({int(row["sample_rate"]) for row in rows})
    if len(rates) > 1:
        raise DataError(
            f"{role}: clips have sound at {', '.join(map(str, rates))} Hz, one scorer hears one rate; ingest "
            "them again with one ingest.sample_rate"
        )
    return rates[0]


def _measured(name: str, scorer: Any, rows: Sequence[Any], config: ScorerConfig, work: Work) -> dict[str, float]:
    """Measurements on clips of classes that are `seen` in training or `held_out` of it."""
    examples = list(load_examples(rows, work.workspace, config))
    return {f"{name}_{key}": value for key, value in measure_scorer(scorer, examples, config.seed).items()}


def _write_groups(path: Path, examples: Sequence[Example]) -> None:
    groups = sorted({example.group for example in examples})
    write_table(path, SCORER_GROUPS, [{"group": group} for group in groups], sort_by=["group"])


def _adopt(role: Role, folder: Path, work: Work) -> Outcome:
    """Take a saved scorer as it is, with the list of groups it was trained on."""
    _, about = load_scorer(folder)
    if about.get("role") != role:
        log.warning("%s: %s holds a scorer of role %r", role, folder, about.get("role"))
    shutil.copytree(folder, work.out / SCORER_FOLDER)
    groups = folder.parent / GROUPS_FILE
    if groups.is_file():
        shutil.copyfile(groups, work.out / GROUPS_FILE)
    measured = {key: value for key, value in about.get("measured", {}).items() if isinstance(value, float)}
    return Outcome(metrics=measured, notes={"scorer": about["fingerprint"], "origin": "pretrained"})

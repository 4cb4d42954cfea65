"""A slice is a cache key: what matters to a stage changes its slice, and nothing else does."""

from __future__ import annotations

import pytest

from soundstage.catalog import STAGES
from soundstage.config import load_config

TRAINING = {"backbone", "pretrain", "finetune"}
VALIDATE = {name for name in STAGES if name.startswith("validate-")}
MODEL = {"encode", "evaluate", "register"} | TRAINING
WINDOW = MODEL | {"review", "select"}

CASES: dict[str, set[str]] = {
    "evaluate.seed=1": {"evaluate", "register"},
    "synth.clips=29": {"ingest"},
    "ingest.workers=1": {"ingest"},
    "split.seed=1": {"split"},
    "contracts.max_reject_share=0.5": VALIDATE,
    "curator.seed=9": {"curator"},
    "judge.seed=9": {"judge"},
    "score.frame_size=32": {"score"},
    "review.seed=9": {"review"},
    "select.max_cuts=3": {"review", "select"},
    "window.fps=12": WINDOW,
    "model.adapter.window_sec=0.5": MODEL,
    "encode.flip=false": {"encode"},
    "backbone.steps=5": {"backbone"},
    "pretrain.steps=5": {"pretrain"},
    "finetune.steps=5": {"finetune"},
    "launcher.ranks=2": TRAINING,
    "registry.name=other": {"register", "promote"},
    "promote.min_true=0.5": {"promote"},
    "trial=true": {"promote"},
    "tracking.experiment=other": {"register", "promote"},
}


def slices(*overrides: str) -> dict[str, str]:
    config = load_config("micro", overrides=overrides)
    return {name: stage.slice_of(config).canonical_json() for name, stage in STAGES.items()}


@pytest.mark.parametrize(("override", "expected"), CASES.items(), ids=CASES)
def test_a_value_changes_the_slices_of_its_readers_alone(override: str, expected: set[str]) -> None:
    before, after = slices(), slices(override)
    assert {name for name in before if before[name] != after[name]} == expected


def test_the_procedural_world_matters_to_its_own_source_alone() -> None:
    folder = "ingest.source=videos"
    assert slices(folder) == slices(folder, "synth.clips=29")
    assert slices(folder)["ingest"] != slices()["ingest"]


def test_the_preset_name_matters_to_no_stage() -> None:
    config = load_config("micro")
    renamed = config.model_copy(update={"preset": "mine"})
    assert all(stage.slice_of(config) == stage.slice_of(renamed) for stage in STAGES.values())

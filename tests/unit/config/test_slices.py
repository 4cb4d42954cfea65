"""A slice is a cache key: what matters to a stage changes its slice, and nothing else does."""

from __future__ import annotations

import pytest

from soundstage.catalog import STAGES
from soundstage.config import load_config
from soundstage.config.tree import AdapterConfig

TRAINING = {"backbone", "pretrain", "finetune"}
VALIDATE = {name for name in STAGES if name.startswith("validate-")}
MODEL = {"encode", "evaluate", "register"} | TRAINING
WINDOW = MODEL | {"review", "select"}
ADAPTER = MODEL - {"encode", "backbone"}  # nothing encoded, and no stand-in, depends on the adapter

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
    "window.width=24": WINDOW,
    "model.adapter.window_sec=0.5": ADAPTER,
    "model.backbone.num_layers=3": MODEL,
    "model.backbone.temporal_stride=5": MODEL,
    "model.backbone.pretrained=somewhere/else": MODEL,
    "model.audio.sample_rate=8000": MODEL,
    "model.audio.encoders.mel.hop_length=80": MODEL,
    "model.audio.encoders.tower.type=sync_tower": MODEL,
    "encode.flip=false": {"encode"},
    "backbone.steps=5": {"backbone"},
    "pretrain.steps=5": {"pretrain"},
    "pretrain.weighting=sampling": {"pretrain"},
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


ADAPTER_VALUES = {
    "inner_dim": 6,
    "heads": 2,
    "audio_dim": 5,
    "window_sec": ".inf",
    "placement": "second_half",
    "every": 2,
    "low_rank": 1,
    "max_share": 0.01,
}


@pytest.mark.parametrize("name", AdapterConfig.model_fields)
def test_no_part_of_the_adapter_reaches_encoding_or_the_backbone(name: str) -> None:
    before, after = slices(), slices(f"model.adapter.{name}={ADAPTER_VALUES[name]}")
    assert {stage for stage in before if before[stage] != after[stage]} == ADAPTER


def test_the_order_in_which_encoders_are_written_matters_to_no_stage() -> None:
    mel, other = "mel: {type: log_mel_onset}", "other: {type: log_mel_onset, hop_length: 320}"
    first, second = (slices(f"model.audio.encoders={{{', '.join(pair)}}}") for pair in ((mel, other), (other, mel)))
    assert first == second != slices()


def test_the_procedural_world_matters_to_its_own_source_alone() -> None:
    folder = "ingest.source=videos"
    assert slices(folder) == slices(folder, "synth.clips=29")
    assert slices(folder)["ingest"] != slices()["ingest"]


def test_the_preset_name_matters_to_no_stage() -> None:
    config = load_config("micro")
    renamed = config.model_copy(update={"preset": "mine"})
    assert all(stage.slice_of(config) == stage.slice_of(renamed) for stage in STAGES.values())

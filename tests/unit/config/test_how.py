"""What says how work is done is no part of the work's name; all else is."""

from __future__ import annotations

import pytest

from soundstage.config import load_config, stage_slice


def work(stage: str, *overrides: str) -> str:
    return stage_slice(stage, load_config("micro", overrides=overrides)).work_json()


@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("pretrain", "launcher.ranks=2"),
        ("pretrain", "launcher.hang_sec=60"),
        ("pretrain", "pretrain.zero_stage=2"),
        ("pretrain", "pretrain.micro_batch=1"),
        ("pretrain", "pretrain.activation_checkpointing=true"),
        ("pretrain", "pretrain.checkpoint_every=1"),
        ("encode", "encode.workers=4"),
        ("ingest", "ingest.workers=7"),
        ("score", "score.workers=7"),
    ],
)
def test_how_work_is_done_does_not_name_it(stage: str, override: str) -> None:
    assert work(stage, override) == work(stage)
    config = load_config("micro", overrides=[override])
    assert stage_slice(stage, config).canonical_json() != stage_slice(stage, load_config("micro")).canonical_json()


@pytest.mark.parametrize(
    "override",
    [
        "pretrain.global_batch=8",
        "pretrain.precision=bf16",
        "pretrain.ema_decay=0.6",
        "pretrain.early_stop=1",
        "model.adapter.heads=2",
        "window.fps=8",
    ],
)
def test_what_decides_the_result_names_the_work(override: str) -> None:
    assert work("pretrain", override) != work("pretrain")

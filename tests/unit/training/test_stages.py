"""Stages `backbone` and `pretrain` where the model is not the plain one: a checkpoint, several encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from soundstage.config.slices import TrainSlice
from soundstage.errors import ConfigError
from soundstage.models.animate import Animator
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.load import load_backbone
from soundstage.models.bundle import new_adapters, save_adapter
from soundstage.stages import NullTracker, Outcome, StageRecord, Work, Workspace, execute
from soundstage.training.follow import run_job
from soundstage.training.metrics import read_metrics
from soundstage.training.stages import pretrain, train_backbone

from ..models.backbones.tiny import Saved, Shelf
from .makers import job_in, train_slice, write_backbone, write_shards


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Shelf(tmp_path_factory.mktemp("checkpoints")).get("wan2.1-t2v")


def referenced(workspace: Workspace, config: TrainSlice) -> StageRecord:
    def nothing(_config: Any, _inputs: Any, _work: Work) -> Outcome:
        return Outcome()

    shards = execute("encode", nothing, config, {}, workspace, code_version="v").record
    return execute("backbone", train_backbone, config, {"shards": shards}, workspace, code_version="v").record


def test_a_pretrained_backbone_is_named_not_copied(tmp_path: Path, checkpoint: Saved) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    config = train_slice(f"model.backbone.pretrained={checkpoint.folder}", stage="backbone")
    record = referenced(workspace, config)
    assert set(record.outputs) == {"backbone/backbone.json", "curves.json"}
    assert record.counts == {"steps": 0}
    parameters = sum(weight.numel() for weight in checkpoint.pipeline.transformer.parameters())
    assert record.metrics == {"backbone_parameters": parameters}
    folder = workspace.output(record, "backbone/backbone.json").parent
    loaded = load_backbone(folder)
    assert str(checkpoint.folder) in record.notes["backbone"]
    assert loaded.fingerprint[:16] in record.notes["backbone"]
    assert not loaded.stand_in
    assert json.loads((folder.parent / "curves.json").read_text()) == {"train": [], "validation": []}


@pytest.mark.parametrize(("stage", "run"), [("backbone", train_backbone), ("pretrain", pretrain)])
def test_replay_is_refused_before_stage_two(tmp_path: Path, stage: str, run: Any) -> None:
    workspace = Workspace.open(tmp_path)
    config = train_slice(f"{stage}.replay_share=0.25", stage=stage)
    with pytest.raises(ConfigError, match=rf"{stage}.replay_share=0.25: .* set finetune.replay_share"):
        execute(stage, run, config, {}, workspace, code_version="v")


def test_a_checkpoint_that_changed_since_is_refused(tmp_path: Path) -> None:
    saved = Shelf(tmp_path).get("wan2.1-t2v")
    workspace = Workspace.open(tmp_path / "workspace")
    record = referenced(workspace, train_slice(f"model.backbone.pretrained={saved.folder}", stage="backbone"))
    (weights,) = (saved.folder / "transformer").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["proj_out.bias"][0] += 1.0
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="restore that checkpoint, or rerun `soundstage train backbone`"):
        load_backbone(workspace.output(record, "backbone/backbone.json").parent)


def test_what_is_saved_does_not_depend_on_where_the_backbone_lies(tmp_path: Path) -> None:
    """Else an equal run in another workspace would be another run to every stage after it."""
    config = train_slice()
    written = []
    for name in ("here", "there"):
        write_backbone(tmp_path / name / "backbone", config)
        backbone = load_backbone(tmp_path / name / "backbone")
        torch.manual_seed(0)
        adapters = new_adapters(backbone, feature_grids(config.model.audio), config.model)
        save_adapter(tmp_path / name / "adapter", adapters, backbone, config.model, config.window, "pretrain")
        written.append({path.name: path.read_bytes() for path in (tmp_path / name / "adapter").iterdir()})
    assert written[0].keys() == {"adapter.json", "adapter.safetensors", "README.md"}
    assert written[0] == written[1]


def test_adapters_are_trained_on_several_encoders_by_weight(tmp_path: Path) -> None:
    """The trainer builds adapters from the index alone; what it saves animates."""
    config = train_slice(
        "model.audio.encoders.slow={type: log_mel_onset, hop_length: 1600, num_mel_bins: 8}",
        *("pretrain.weighting=sampling", "pretrain.steps=6", "pretrain.validate_every=6", "launcher.threads=1"),
        "model.adapter.max_share=0.03",
    )
    write_shards(tmp_path / "shards", config, 9, weights={0: 4.0, 1: 0.0})
    write_backbone(tmp_path / "backbone", config)
    job = job_in(tmp_path, config, tmp_path / "shards", tmp_path / "backbone")
    run_job(job, NullTracker())
    assert [line["step"] for line in read_metrics(job.metrics) if "loss" in line] == list(range(1, 7))
    about = json.loads((job.out / "adapter" / "adapter.json").read_text())
    assert {name: grid["hop_sec"] for name, grid in about["grids"].items()} == {"mel": 0.01, "slow": 0.1}
    trained = load_file(job.out / "adapter" / "adapter.safetensors")
    assert all(trained[name].abs().sum() > 0 for name in trained if "to_out" in name), "every adapter has learned"
    animator = Animator.load(tmp_path / "backbone", job.out / "adapter")
    assert set(animator.encoders) == {"mel", "slow"}

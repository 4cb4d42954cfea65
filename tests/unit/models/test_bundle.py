"""Adapters on disk: every bit comes back, onto the backbone they were made for and no other."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from soundstage.config.audio import AudioConfig, LogMelConfig, TransformersAudioConfig
from soundstage.config.tree import ModelConfig
from soundstage.errors import ConfigError
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.bundle import breakdown, describe_adapter, licences, load_adapter, new_adapters, save_adapter
from soundstage.models.conditioned import AudioConditionedTransformer, parameter_count

from .backbones.tiny import MEMBERS, Shelf
from .makers import WINDOW, Scene, backbone, make_heard, mel_grids, model_config

WHISPER = FeatureGrid(dim=6, hop_sec=0.02, first_sec=0.01)


def several(**adapter: Any) -> tuple[ModelConfig, dict[str, FeatureGrid]]:
    """Mel and a Whisper encoder of width 6, which need not be at hand: only its description counts here."""
    whisper = TransformersAudioConfig(
        type="whisper", pretrained="openai/whisper-small", hidden_size=6, licence="Apache-2.0"
    )
    config = model_config(**adapter)
    audio = AudioConfig(encoders=config.audio.encoders | {"whisper": whisper})
    return config.model_copy(update={"audio": audio}), mel_grids(config) | {"whisper": WHISPER}


def of(**settings: Any) -> ModelConfig:
    """The usual model over a stand-in with other settings."""
    config = model_config()
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=settings)})


@pytest.mark.parametrize("window_sec", [0.25, math.inf])
def test_an_adapter_comes_back_whole(tmp_path: Path, window_sec: float) -> None:
    config = model_config(window_sec=window_sec)
    made = backbone(config)
    adapters = new_adapters(made, mel_grids(config), config)
    make_heard(adapters)
    save_adapter(tmp_path, adapters, made, config, WINDOW, "pretrain")
    loaded, loaded_config, window = load_adapter(tmp_path, made)
    assert (loaded_config, window) == (config, WINDOW)
    wanted = adapters.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())
    about = describe_adapter(tmp_path)
    assert about["trainable_share"] == parameter_count(adapters) / parameter_count(made.transformer)
    assert "stand-in" in (tmp_path / "README.md").read_text()


def test_encoders_placement_and_updates_come_back_and_say_the_same(tmp_path: Path) -> None:
    config, grids = several(low_rank=2, placement="second_half")
    made = backbone(config)
    adapters = new_adapters(made, grids, config)
    make_heard(adapters)
    save_adapter(tmp_path, adapters, made, config, WINDOW, "finetune")
    loaded, loaded_config, _ = load_adapter(tmp_path, made)
    assert loaded_config == config
    assert loaded.grids == grids
    assert list(loaded.grids) == list(grids)
    scene = Scene(made)
    with torch.no_grad():
        wanted = AudioConditionedTransformer(made, adapters)(*scene.asked(), scene.heard(adapters))
        found = AudioConditionedTransformer(made, loaded)(*scene.asked(), scene.heard(loaded))
        deaf = AudioConditionedTransformer(made, None)(*scene.asked())
    assert torch.equal(found, wanted)
    assert not torch.allclose(found, deaf, atol=1e-3)


def test_the_description_says_what_it_is_made_of(tmp_path: Path) -> None:
    config, grids = several(inner_dim=2, heads=1, audio_dim=4, low_rank=1)
    made = backbone(config)
    adapters = new_adapters(made, grids, config)
    # By hand: two encoders and the code of time; two blocks of 32; four maps of 32 x 32 in each.
    attention = (32 * 2 + 2) + (4 * 4 + 4) + (2 * 32 + 32)
    parts = {
        "projector": (17 * 4 + 4) + (6 * 4 + 4) + 12 * 4,
        "attentions": 2 * attention,
        "low_rank": 2 * 4 * (32 + 32),
    }
    assert breakdown(adapters) == parts
    save_adapter(tmp_path, adapters, made, config, WINDOW, "finetune")
    about = describe_adapter(tmp_path)
    assert about["breakdown"] == parts
    assert about["trainable_parameters"] == sum(parts.values()) == parameter_count(adapters)
    assert about["backbone_parameters"] == parameter_count(made.transformer)
    assert {name: FeatureGrid(**grid) for name, grid in about["grids"].items()} == grids
    assert about["grids"]["whisper"] == asdict(WHISPER)
    assert (about["family"], about["stage"], about["prediction"]) == ("wan", "finetune", "velocity")
    assert about["backbone"]["fingerprint"] == about["backbone_fingerprint"] == made.fingerprint
    assert about["licences"] == {"backbone": "Apache-2.0", "audio.whisper": "Apache-2.0"}
    card = (tmp_path / "README.md").read_text()
    for said in ("projector 148, attentions 364, low_rank 512", "Hears: mel, whisper", "audio.whisper: Apache-2.0"):
        assert said in card
    assert f"{about['trainable_share']:.2%}" in card


def test_licences_are_those_of_what_is_needed() -> None:
    made = backbone()
    # Log-mel needs no weights, so there is nothing to have a licence.
    assert licences(made, model_config()) == {"backbone": "Apache-2.0"}
    made.licence = "CogVideoX-License"
    unknown = TransformersAudioConfig(type="ast", pretrained="somewhere/ast", hidden_size=8)
    audio = AudioConfig(encoders={"mel": LogMelConfig(), "ast": unknown})
    config = model_config().model_copy(update={"audio": audio})
    assert licences(made, config) == {"backbone": "CogVideoX-License", "audio.ast": "unknown"}


@pytest.mark.parametrize(
    ("name", "experimental"),
    [
        ("wan2.1-t2v", True),
        ("wan2.2-ti2v", False),
        ("ltx-0.9.5", False),
        ("cogvideox-2b", True),
        ("cogvideox-5b-i2v", False),
    ],
)
def test_the_card_says_where_a_first_frame_is_an_experiment(
    shelf: Shelf, tmp_path: Path, name: str, experimental: bool
) -> None:
    made, config = shelf.get(name).load(), model_config()
    save_adapter(tmp_path, new_adapters(made, mel_grids(config), config), made, config, WINDOW, "pretrain")
    about, card = describe_adapter(tmp_path), (tmp_path / "README.md").read_text()
    assert about["backbone"]["first_frame_native"] is not experimental
    assert ("**Experimental:**" in card) is experimental
    assert MEMBERS[name].family in card
    assert "stand-in" not in card
    assert "preconditioned" not in card


@pytest.mark.parametrize("prediction", ["velocity", "clean_residual"])
def test_the_card_of_a_stand_in_says_what_it_is(tmp_path: Path, prediction: str) -> None:
    config = of(prediction=prediction)
    made = backbone(config)
    save_adapter(tmp_path, new_adapters(made, mel_grids(config), config), made, config, WINDOW, "pretrain")
    card = (tmp_path / "README.md").read_text()
    assert "stand-in backbone, itself trained on the pipeline's own video" in card
    assert "Experimental" not in card
    assert ("preconditioned" in card) is (prediction == "clean_residual")
    assert "6 frames of 16x16 (height x width) at 6 a second" in card
    assert "stage `pretrain`" in card


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    config = model_config()
    made = backbone(config)
    save_adapter(tmp_path, new_adapters(made, mel_grids(config), config), made, config, WINDOW, "pretrain")
    stranger = backbone(config, seed=1)
    with pytest.raises(ConfigError, match=f"{made.fingerprint[:16]}, this one is {stranger.fingerprint[:16]}"):
        load_adapter(tmp_path, stranger)
    # Equal weights of another meaning are another backbone.
    other = backbone(of(prediction="clean_residual"))
    equal = other.transformer.state_dict()
    assert all(torch.equal(tensor, equal[name]) for name, tensor in made.transformer.state_dict().items())
    with pytest.raises(ConfigError, match="load it onto its own backbone"):
        load_adapter(tmp_path, other)


def test_a_budget_is_kept_at_creation() -> None:
    config = model_config(max_share=0.001)
    with pytest.raises(ConfigError, match=r"allowed are 0\.10%"):
        new_adapters(backbone(config), mel_grids(config), config)


def test_a_low_rank_update_counts_in_the_budget() -> None:
    made = backbone()
    without = new_adapters(made, mel_grids(), model_config())
    share = parameter_count(without) / parameter_count(made.transformer)
    tight = {"max_share": share * 1.001}
    assert parameter_count(new_adapters(made, mel_grids(), model_config(**tight))) == parameter_count(without)
    with pytest.raises(ConfigError, match=r"lower model\.adapter\.inner_dim, audio_dim or low_rank"):
        new_adapters(made, mel_grids(), model_config(**tight, low_rank=1))


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no adapter \(no adapter\.json\)"):
        describe_adapter(tmp_path)


def test_the_description_is_strict_json(tmp_path: Path) -> None:
    config = model_config(window_sec=math.inf)
    made = backbone(config)
    save_adapter(tmp_path, new_adapters(made, mel_grids(config), config), made, config, WINDOW, "pretrain")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "adapter.json").read_text(), parse_constant=refuse)

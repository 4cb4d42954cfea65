"""What is told of a model without its weights: counts by hand, times by law, and nothing asked of any network."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from soundstage.config import SoundstageConfig, load_config
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import new_backbone, release_on_meta
from soundstage.models.bundle import new_adapters
from soundstage.models.conditioned import parameter_count
from soundstage.models.info import declared_grids, model_info, on_meta

# Parameters of the transformer, blocks, width; pixels of a token's side, frames of a latent.
FACTS = {
    "wan2.1-t2v-1.3b": (1_418_996_800, 30, 12 * 128, 16, 4),
    "wan2.1-t2v-14b": (14_288_491_584, 40, 40 * 128, 16, 4),
    "wan2.2-ti2v-5b": (4_999_787_712, 30, 24 * 128, 32, 4),
    "ltx-video-2b": (1_923_385_472, 28, 32 * 64, 32, 8),
    "cogvideox-2b": (1_693_783_872, 30, 30 * 64, 16, 4),
    "cogvideox-5b": (5_570_283_072, 42, 48 * 64, 16, 4),
    "cogvideox-5b-i2v": (5_570_479_680, 42, 48 * 64, 16, 4),
}
# mel: 64 bands and onset strength; whisper-small: three layers of 768; AST: one of 768.
WIDTHS = (65, 3 * 768, 768)
HOPS_SEC = {"mel": 0.01, "whisper": 0.02, "ast": 0.1}


def _info(config: SoundstageConfig) -> dict[str, Any]:
    return model_info(config, on_meta(config))


@pytest.fixture(scope="module", params=FACTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def info(name: str) -> dict[str, Any]:
    return _info(load_config(name))


def test_share_is_counted_by_hand_and_within_the_budget(name: str, info: dict[str, Any]) -> None:
    parameters, blocks, width, _, _ = FACTS[name]
    adapter = load_config(name).model.adapter
    inner, audio, rank = adapter.inner_dim, adapter.audio_dim, adapter.low_rank
    # A linear map with bias per encoder, and one without from the sines and cosines of six periods.
    projector = sum((dim + 1) * audio for dim in WIDTHS) + 2 * 6 * audio
    # Queries from the block's width, keys and values from audio, back to the block's width; all with bias.
    attention = (width + 1) * inner + (audio + 1) * 2 * inner + (inner + 1) * width
    # Down and up beside the four square maps of a block's self-attention.
    low_rank = 4 * 2 * width * rank
    by_hand = {"projector": projector, "attentions": blocks * attention, "low_rank": blocks * low_rank}
    assert info["breakdown"] == by_hand
    assert info["trainable_parameters"] == sum(by_hand.values())
    assert info["backbone"]["parameters"] == parameters
    assert info["trainable_share"] == sum(by_hand.values()) / parameters
    assert 0.010 < info["trainable_share"] <= 0.019
    assert info["within_budget"]


def test_window_is_legal_and_its_tokens_are_counted(name: str, info: dict[str, Any]) -> None:
    _, _, _, side, stride = FACTS[name]
    window = load_config(name).window
    height, width = window.frame_size
    assert height % side == width % side == (window.num_frames - 1) % stride == 0
    latents = 1 + (window.num_frames - 1) // stride
    assert info["window"] == {
        "num_frames": window.num_frames,
        "latent_frames": latents,
        "height": height,
        "width": width,
        "tokens": latents * (height // side) * (width // side),
        "fps": window.fps,
        "seconds": window.num_frames / window.fps,
    }


def test_a_window_holds_as_many_features_as_its_seconds_do(name: str, info: dict[str, Any]) -> None:
    """Latent 0 lasts one frame, the others `stride`; the window reaches `window_sec` and half a hop further."""
    stride, config = FACTS[name][4], load_config(name)
    assert {encoder: about["hop_sec"] for encoder, about in info["audio"].items()} == pytest.approx(HOPS_SEC)
    for about in info["audio"].values():
        for found, frames in zip(about["features_per_latent_frame"], (1, stride), strict=True):
            length = frames / config.window.fps + 2 * config.model.adapter.window_sec + about["hop_sec"]
            # A closed interval of length L holds floor(L / hop) or one more points of a grid, wherever it starts; the
            # least and the most over windows may each be either.
            hops = length / about["hop_sec"]
            assert math.floor(hops - 1e-3) <= found <= math.floor(hops + 1e-3) + 1


def test_backbone_is_described(name: str, info: dict[str, Any]) -> None:
    backbone = release_on_meta(name)
    about = info["backbone"]
    assert (about["blocks"], about["hidden_dim"]) == FACTS[name][1:3]
    assert about["family"] == backbone.family
    assert about["prediction"] == backbone.prediction
    assert about["scheduler"] == backbone.scheduler_class
    assert about["experimental"] is not about["first_frame_native"]
    assert about["hub_id"] == about["origin"] == load_config(name).model.backbone.pretrained
    assert len(about["revision"]) == 40
    assert about["licence"] != "unknown"


def test_meta_counts_equal_those_of_real_modules() -> None:
    config = load_config("micro", overrides=["model.adapter.low_rank=1", "model.adapter.max_share=1.0"])
    info = _info(config)
    backbone = new_backbone(config.model.backbone, seed=0)
    adapters = new_adapters(backbone, declared_grids(config), config.model)
    assert info["backbone"]["parameters"] == parameter_count(backbone.transformer)
    assert info["trainable_parameters"] == parameter_count(adapters)
    assert info["breakdown"]["low_rank"] == parameter_count(adapters.updates) > 0
    assert (info["backbone"]["stand_in"], info["backbone"]["hub_id"]) == (True, None)
    assert info["backbone"]["prediction"] == backbone.prediction == "clean_residual"


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("model info must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    info = _info(load_config("wan2.1-t2v-1.3b"))
    assert set(info["audio"]) == {"mel", "whisper", "ast"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LTX model as `save_pretrained` writes it; of the autoencoder its description alone."""
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel

    place = tmp_path_factory.mktemp("ltx")
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32, "num_layers": 3}
    LTXVideoTransformer3DModel(**sizes, in_channels=8, out_channels=8, caption_channels=12).save_pretrained(
        place / "transformer"
    )
    FlowMatchEulerDiscreteScheduler().save_pretrained(place / "scheduler")
    with torch.device("meta"):
        AutoencoderKLLTXVideo(latent_channels=8).save_config(place / "vae")
    return place


def _overrides(folder: Path, family: str = "ltx") -> list[str]:
    backbone = f"model.backbone={{family: {family}, pretrained: {folder}}}"
    return [backbone, "window={num_frames: 17, fps: 8, size: 64, width: 96}", "model.adapter.inner_dim=4"]


def test_a_folder_is_told_by_its_configuration_files(folder: Path) -> None:
    from diffusers import LTXVideoTransformer3DModel

    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(folder / "elsewhere")
    try:
        info = _info(load_config("micro", overrides=_overrides(folder)))
    finally:
        (folder / "elsewhere").rename(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    loaded = LTXVideoTransformer3DModel.from_pretrained(folder / "transformer")
    assert info["backbone"]["parameters"] == parameter_count(loaded)
    assert (info["backbone"]["blocks"], info["backbone"]["hidden_dim"]) == (3, 32)
    assert (info["backbone"]["hub_id"], info["backbone"]["licence"]) == (None, "unknown")
    assert info["window"]["tokens"] == 3 * 2 * 3


@pytest.mark.parametrize("kind", ["whisper", "ast", "clap", "wav2vec2", "hubert"])
def test_times_of_an_encoder_on_the_hub_are_those_of_its_type(kind: str, tmp_path: Path) -> None:
    """The published base checkpoints have the library's defaults in all that makes time: a folder of them agrees."""
    import transformers

    from soundstage.models.audio.families import FAMILIES

    family = FAMILIES[kind]  # type: ignore[index]
    network = transformers.CONFIG_MAPPING[next(iter(family.models))]()
    network.save_pretrained(tmp_path)
    getattr(transformers, family.extractor)().save_pretrained(tmp_path)
    width = family.width(network)
    grids = [
        declared_grids(
            load_config(
                "micro",
                overrides=[
                    f"model.audio.encoders={{e: {{type: {kind}, pretrained: {place}, hidden_size: {width}, "
                    "layers: [-2, -1]}}"
                ],
            )
        )["e"]
        for place in (tmp_path, "owner/name")
    ]
    assert grids[0] == grids[1]
    assert grids[0].dim == 2 * width
    expected = {"whisper": 0.02, "ast": 0.1, "clap": 0.313, "wav2vec2": 0.02, "hubert": 0.02}[kind]
    assert grids[0].hop_sec == pytest.approx(expected, abs=5e-4)


def test_the_curators_tower_is_told_before_it_is_trained() -> None:
    overrides = ["model.audio.encoders={sync: {type: sync_tower}}", "model.adapter.max_share=1.0"]
    config = load_config("micro", overrides=overrides)
    about = _info(config)["audio"]["sync"]
    assert about["dim"] == config.curator.embedding_dim
    assert about["hop_sec"] in (0.01, 0.02)


I2V = "cogvideox-5b-i2v"
REFUSED = {
    "unknown hub id": (["model.backbone.pretrained=Wan-AI/Wan9-Diffusers"], "Wan9-Diffusers' is no folder here and no"),
    "other family": (["model.backbone.family=ltx"], "is of family cogvideox, model.backbone.family says ltx"),
    "length of a window": (["window.num_frames=17"], "has learned its positions for 49 frames"),
    "size of a window": (["window.size=512"], "has learned its positions at 480 x 720"),
    "silent encoder": (
        [
            "model.audio.encoders={y: {type: onnx, path: y.onnx, hop_sec: 0.1}}",
            "window.audio_margin_sec=0",
            "model.adapter.window_sec=0",
        ],
        r"model\.audio\.encoders\.y: latent frame 0 .* has no audio feature",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _info(load_config(I2V, overrides=overrides))


def test_folders_that_are_not_of_the_family_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"class LTXVideoTransformer3DModel, family wan has WanTransformer3DModel"):
        _info(load_config("micro", overrides=_overrides(folder, family="wan")))
    with pytest.raises(ConfigError, match=r"transformer/config\.json cannot be read"):
        _info(load_config("micro", overrides=_overrides(tmp_path)))

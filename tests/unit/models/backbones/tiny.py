"""Tiny random checkpoints of every supported kind, of the real classes, saved as their pipelines save themselves.

Settings that tell one published checkpoint from another (strides, channels, patches, positions, scheduler) are the
published ones; only widths and depths are small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from torch import nn
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from soundstage.config.tree import BackboneConfig
from soundstage.models.backbones.base import Backbone
from soundstage.models.backbones.load import FAMILIES, pretrained_backbone

TEXT_DIM = 32
FLOW_UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "num_train_timesteps": 1000}
COGVIDEOX_NOISE: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "timestep_spacing": "trailing",
}


@dataclass(frozen=True)
class Member:
    """A kind of checkpoint: what builds its pipeline, and a small window that it takes."""

    family: Literal["wan", "ltx", "cogvideox"]
    build: Callable[[], Any]
    num_frames: int
    height: int
    width: int
    fps: int


def _text(kind: Literal["t5", "umt5"]) -> dict[str, Any]:
    sizes = {"vocab_size": 384, "d_model": TEXT_DIM, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    gated = {"feed_forward_proj": "gated-gelu"}
    encoder = (
        UMT5EncoderModel(UMT5Config(**sizes, **gated)) if kind == "umt5" else T5EncoderModel(T5Config(**sizes, **gated))
    )
    return {"text_encoder": encoder.eval(), "tokenizer": ByT5Tokenizer()}


def _sharp(conv: nn.Conv3d, channels: int) -> None:
    """Let an encoder be sure of its latents, so that a sample of the posterior is its mode up to exp(-15)."""
    with torch.no_grad():
        conv.weight[channels:] = 0
        assert conv.bias is not None
        conv.bias[channels:] = -30


def _statistics(channels: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(9)
    mean, std = torch.rand(2, channels, generator=generator)
    return {"latents_mean": (mean - 0.5).tolist(), "latents_std": (0.5 + std).tolist()}


def wan(channels: Literal[16, 48]) -> Any:
    """16: Wan 2.1 text-to-video. 48: Wan 2.2 text-and-image-to-video, whose codec cuts pictures into patches first."""
    torch.manual_seed(0)
    patched: dict[str, Any] = {}
    if channels == 48:
        patched = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "is_residual": True}
        patched |= {"scale_factor_spatial": 16, "decoder_base_dim": 8}
    vae = diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **_statistics(channels),
        **patched,
    )
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=channels,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        rope_max_seq_len=32,
    )
    scheduler = diffusers.UniPCMultistepScheduler(**FLOW_UNIPC, flow_shift=5.0 if channels == 48 else 3.0)
    parts = {"vae": vae.eval(), "transformer": transformer.eval(), "scheduler": scheduler, **_text("umt5")}
    return diffusers.WanPipeline(**parts, expand_timesteps=channels == 48)


_LTX_090: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, True, False),
    "decoder_spatio_temporal_scaling": (True, True, True, False),
}
_LTX_DENOISING_DECODER: dict[str, Any] = {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (False, False, False, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
_LTX_095: dict[str, Any] = {
    "block_out_channels": (8, 8, 16, 16, 16),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "layers_per_block": (1, 1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, True, True),
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
_LTX_VERSIONS = {
    "0.9.0": _LTX_090,
    "0.9.1": _LTX_090 | _LTX_DENOISING_DECODER,
    "0.9.5": _LTX_DENOISING_DECODER | _LTX_095,
}


def ltx(version: Literal["0.9.0", "0.9.1", "0.9.5"]) -> Any:
    """0.9.1 brought a decoder that denoises, 0.9.5 another encoder, other positions and a fixed noise schedule."""
    torch.manual_seed(0)
    channels = 8
    vae = diffusers.AutoencoderKLLTXVideo(latent_channels=channels, **_LTX_VERSIONS[version])
    _sharp(vae.encoder.conv_out.conv, channels)
    for name, values in _statistics(channels).items():
        getattr(vae, name).copy_(torch.tensor(values))
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=channels,
        out_channels=channels,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_DIM,
    )
    shifting = {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "shift_terminal": 0.1}
    lengths = {"base_image_seq_len": 1024, "max_image_seq_len": 4096}
    settings: dict[str, Any] = {} if version == "0.9.5" else shifting | lengths
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    parts = {"vae": vae.eval(), "transformer": transformer.eval(), "scheduler": scheduler, **_text("t5")}
    return diffusers.LTXPipeline(**parts)


def cogvideox(kind: Literal["2b", "5b", "5b-i2v"], scheduler: Literal["DDIM", "DPM"] = "DDIM") -> Any:
    """2b: fixed sinusoids. 5b: rotary positions. 5b-i2v: rotary and learned ones, and the picture as channels."""
    torch.manual_seed(0)
    channels = 4
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=channels,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=1.15258426 if kind == "2b" else 0.7,
    )
    _sharp(vae.encoder.conv_out.conv, channels)
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=2 * channels if kind == "5b-i2v" else channels,
        out_channels=channels,
        time_embed_dim=16,
        text_embed_dim=TEXT_DIM,
        num_layers=2,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        use_rotary_positional_embeddings=kind != "2b",
        use_learned_positional_embeddings=kind == "5b-i2v",
    )
    settings = COGVIDEOX_NOISE | {"snr_shift_scale": 3.0 if kind == "2b" else 1.0}
    made: Any
    if scheduler == "DPM":
        made = diffusers.CogVideoXDPMScheduler(**settings)
    else:
        made = diffusers.CogVideoXDDIMScheduler(**settings, clip_sample=False)
    parts = {"vae": vae.eval(), "transformer": transformer.eval(), "scheduler": made, **_text("t5")}
    pipeline = diffusers.CogVideoXImageToVideoPipeline if kind == "5b-i2v" else diffusers.CogVideoXPipeline
    return pipeline(**parts)


MEMBERS: dict[str, Member] = {
    "wan2.1-t2v": Member("wan", lambda: wan(16), 9, 32, 48, 16),
    "wan2.2-ti2v": Member("wan", lambda: wan(48), 9, 64, 96, 24),
    "ltx-0.9.0": Member("ltx", lambda: ltx("0.9.0"), 17, 64, 96, 25),
    "ltx-0.9.1": Member("ltx", lambda: ltx("0.9.1"), 17, 64, 96, 25),
    "ltx-0.9.5": Member("ltx", lambda: ltx("0.9.5"), 17, 64, 96, 25),
    "cogvideox-2b": Member("cogvideox", lambda: cogvideox("2b"), 9, 32, 48, 8),
    "cogvideox-5b": Member("cogvideox", lambda: cogvideox("5b"), 9, 32, 48, 8),
    "cogvideox-5b-dpm": Member("cogvideox", lambda: cogvideox("5b", "DPM"), 9, 32, 48, 8),
    "cogvideox-5b-i2v": Member("cogvideox", lambda: cogvideox("5b-i2v"), 9, 32, 48, 8),
    "cogvideox-5b-i2v-dpm": Member("cogvideox", lambda: cogvideox("5b-i2v", "DPM"), 9, 32, 48, 8),
}


@dataclass(frozen=True)
class Saved:
    """A member on disk: the pipeline that was saved, and the folder it was saved to."""

    member: Member
    pipeline: Any
    folder: Path

    @property
    def config(self) -> BackboneConfig:
        return BackboneConfig(family=self.member.family, pretrained=str(self.folder))

    def load(self) -> Backbone:
        """As the stages load it."""
        return pretrained_backbone(self.config)


class Shelf:
    """Members saved once a test session, when first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.get = cache(self._make)

    def _make(self, name: str) -> Saved:
        pipeline = MEMBERS[name].build()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(self._root / name)
        return Saved(MEMBERS[name], pipeline, self._root / name)


def video(member: Member, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Frames (B, T, H, W, 3) uint8 of noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, member.num_frames, member.height, member.width, 3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def of_family(family: str) -> list[str]:
    """Names of a family's members."""
    assert family in FAMILIES
    return [name for name, member in MEMBERS.items() if member.family == family]

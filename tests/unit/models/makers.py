"""Small real backbones and adapters: diffusers' own class, a few thousand weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from soundstage.config.tree import AdapterConfig, AudioFeatureConfig, BackboneConfig, ModelConfig, WindowConfig
from soundstage.models.backbones.base import Backbone
from soundstage.models.backbones.wan import create_stand_in

WINDOW = WindowConfig(num_frames=6, fps=6, size=16, audio_margin_sec=0.3)


def model_config(**adapter: Any) -> ModelConfig:
    """A two-block Wan of width 32; adapters without a budget unless one is given."""
    backbone = BackboneConfig(
        num_layers=2, num_attention_heads=2, attention_head_dim=16, ffn_dim=64, patch_size=4, text_dim=16
    )
    sizes: dict[str, Any] = {"inner_dim": 4, "heads": 2, "audio_dim": 8, "max_share": 1.0} | adapter
    return ModelConfig(backbone=backbone, audio=AudioFeatureConfig(num_mel_bins=16), adapter=AdapterConfig(**sizes))


def backbone(config: ModelConfig | None = None, seed: int = 0) -> Backbone:
    """A frozen random stand-in."""
    made = create_stand_in((config or model_config()).backbone, seed)
    made.transformer.requires_grad_(False).eval()
    return made


def make_heard(module: nn.Module, seed: int = 1, scale: float = 0.3) -> None:
    """Fill every parameter with noise, so that adapters add something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))

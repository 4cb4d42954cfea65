"""Small real backbones, adapters and sounds: diffusers' own class, a few thousand weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import AdapterConfig, BackboneConfig, ModelConfig, WindowConfig
from soundstage.models.adapter import AudioContext
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.backbones.stand_in import StandIn, create_stand_in
from soundstage.models.conditioned import AudioAdapters
from soundstage.models.windows import AudioWindows, audio_windows, frame_spans

WINDOW = WindowConfig(num_frames=6, fps=6, size=16, audio_margin_sec=0.3)
# Besides the mel grid of `model_config`, one as coarse as a patch network's.
COARSE = FeatureGrid(dim=6, hop_sec=0.48, first_sec=0.24)


def model_config(blocks: int = 2, **adapter: Any) -> ModelConfig:
    """A Wan of width 32, two blocks by default; adapters without a budget unless one is given."""
    shape = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "patch_size": 4, "text_dim": 16}
    sizes: dict[str, Any] = {"inner_dim": 4, "heads": 2, "audio_dim": 8, "max_share": 1.0} | adapter
    return ModelConfig(
        backbone=BackboneConfig(num_layers=blocks, **shape),
        audio=AudioConfig(encoders={"mel": LogMelConfig(num_mel_bins=16)}),
        adapter=AdapterConfig(**sizes),
    )


def backbone(config: ModelConfig | None = None, seed: int = 0) -> StandIn:
    """A frozen random stand-in."""
    made = create_stand_in((config or model_config()).backbone, seed)
    made.transformer.requires_grad_(False).eval()
    return made


def mel_grids(config: ModelConfig | None = None) -> dict[str, FeatureGrid]:
    """Where the configured features lie: 17 values every 0.01 s."""
    return feature_grids((config or model_config()).audio)


def adapters_for(made: Backbone, config: ModelConfig, *, coarse: bool = False, seed: int = 3) -> AudioAdapters:
    """Untrained adapters for the mel grid, and for a coarse encoder beside it if wanted."""
    torch.manual_seed(seed)
    grids = mel_grids(config) | ({"patches": COARSE} if coarse else {})
    return AudioAdapters(made, grids, config.adapter)


def make_heard(module: nn.Module, seed: int = 1, scale: float = 0.3) -> None:
    """Fill every parameter with noise, so that adapters add something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def sounds(grids: Mapping[str, FeatureGrid], batch: int, seed: int = 7) -> dict[str, torch.Tensor]:
    """Random features (batch, T, dim) of every encoder over `WINDOW` and its margins."""
    generator = torch.Generator().manual_seed(seed)
    length = float(WINDOW.duration_sec) + 2 * WINDOW.audio_margin_sec
    return {
        name: torch.randn(batch, round(length / grid.hop_sec), grid.dim, generator=generator)
        for name, grid in grids.items()
    }


def windows_of(adapters: AudioAdapters, features: Mapping[str, torch.Tensor]) -> dict[str, AudioWindows]:
    """What each frame of `WINDOW` hears of `features`, which start with the margin."""
    spans = frame_spans(WINDOW.num_frames, float(WINDOW.fps))
    found = {}
    for name, grid in adapters.grids.items():
        times = grid.times_sec(features[name].shape[1], -WINDOW.audio_margin_sec)
        found[name] = audio_windows(spans, times, adapters.config.window_sec, grid.hop_sec)
    return found


def heard(adapters: AudioAdapters, keep: tuple[float, ...] = (1.0, 1.0), seed: int = 7) -> AudioContext:
    """One random sound a sample; `keep` says which are heard."""
    features = sounds(adapters.grids, len(keep), seed)
    return adapters.context(features, windows_of(adapters, features), torch.tensor(keep))


def asked(seed: int = 5, text_dim: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, TextEmbedding, float]:
    """Two samples to denoise, as the model takes them: noisy, first, timestep, text, fps."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 3, WINDOW.num_frames, 16, 16, generator=generator)
    first = torch.randn(2, 3, 1, 16, 16, generator=generator)
    text = TextEmbedding(torch.randn(2, 48, text_dim, generator=generator), torch.ones(2, 48, dtype=torch.bool))
    return latents, first, torch.tensor([900.0, 120.0]), text, float(WINDOW.fps)

"""Small real backbones, adapters and sounds: diffusers' own class, a few thousand weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import AdapterConfig, BackboneConfig, ModelConfig, WindowConfig
from soundstage.models.adapter import AudioContext
from soundstage.models.audio.base import FeatureGrid
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone, TextEmbedding
from soundstage.models.backbones.cogvideox import NUM_TEXT_TOKENS
from soundstage.models.backbones.stand_in import StandIn, create_stand_in
from soundstage.models.conditioned import AudioAdapters
from soundstage.models.windows import AudioWindows, audio_windows, frame_spans

from .backbones.tiny import TEXT_DIM, Member

WINDOW = WindowConfig(num_frames=6, fps=6, size=16, audio_margin_sec=0.3)
# Besides the mel grid of `model_config`, one as coarse as a patch network's.
COARSE = FeatureGrid(dim=6, hop_sec=0.48, first_sec=0.24)
Asked = tuple[torch.Tensor, torch.Tensor, torch.Tensor, TextEmbedding, float]
"""What a model is called with: noisy, first, timestep, text, fps."""


def model_config(blocks: int = 2, **adapter: Any) -> ModelConfig:
    """A Wan of width 32, two blocks by default; adapters without a budget unless one is given."""
    shape: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "patch_size": 4, "text_dim": 16}
    sizes: dict[str, Any] = {"inner_dim": 4, "heads": 2, "audio_dim": 8, "max_share": 1.0} | adapter
    return ModelConfig(
        backbone=BackboneConfig(num_layers=blocks, ffn_dim=64, **shape),
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
    grids = mel_grids(config) | ({"patches": COARSE} if coarse else {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AudioAdapters(made, grids, config.adapter)


def make_heard(module: nn.Module, seed: int = 1, scale: float = 0.3) -> None:
    """Fill every parameter with noise, so that adapters add something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


@dataclass(frozen=True)
class Scene:
    """A backbone and the shape of what it is asked: latent frames, latent height and width, frames a second."""

    backbone: Backbone
    latent_frames: int = WINDOW.num_frames
    height: int = WINDOW.size
    width: int = WINDOW.size
    fps: float = float(WINDOW.fps)
    text_dim: int = 16
    text_tokens: int = 12

    def asked(self, seed: int = 5, batch: int = 2) -> Asked:
        """Samples to denoise; captions of several lengths."""
        generator = torch.Generator().manual_seed(seed)
        channels = self.backbone.codec_shape.channels
        latents = torch.randn(batch, channels, self.latent_frames, self.height, self.width, generator=generator)
        first = torch.randn(batch, channels, 1, self.height, self.width, generator=generator)
        mask = torch.arange(self.text_tokens)[None] < torch.arange(batch)[:, None] + 4
        text = TextEmbedding(torch.randn(batch, self.text_tokens, self.text_dim, generator=generator), mask)
        return latents, first, torch.tensor([900, 120, 500][:batch]), text, self.fps

    def sounds(self, grids: Mapping[str, FeatureGrid], batch: int = 2, seed: int = 7) -> dict[str, torch.Tensor]:
        """Random features (batch, T, dim) of every encoder over the video and a margin of 0.3 s around it."""
        generator = torch.Generator().manual_seed(seed)
        frames = 1 + (self.latent_frames - 1) * self.backbone.codec_shape.temporal_stride
        length = frames / self.fps + 2 * WINDOW.audio_margin_sec
        return {
            name: torch.randn(batch, round(length / grid.hop_sec) + 1, grid.dim, generator=generator)
            for name, grid in grids.items()
        }

    def windows(self, adapters: AudioAdapters, features: Mapping[str, torch.Tensor]) -> dict[str, AudioWindows]:
        """What each latent frame hears of `features`, which start with the margin."""
        spans = frame_spans(self.latent_frames, self.fps, self.backbone.codec_shape.temporal_stride)
        found = {}
        for name, grid in adapters.grids.items():
            times = grid.times_sec(features[name].shape[1], -WINDOW.audio_margin_sec)
            found[name] = audio_windows(spans, times, adapters.config.window_sec, grid.hop_sec)
        return found

    def heard(self, adapters: AudioAdapters, keep: tuple[float, ...] = (1.0, 1.0), seed: int = 7) -> AudioContext:
        """One random sound a sample; `keep` says which are heard."""
        features = self.sounds(adapters.grids, len(keep), seed)
        return adapters.context(features, self.windows(adapters, features), torch.tensor(keep))


def scene_of(made: Backbone, member: Member) -> Scene:
    """A tiny checkpoint of some family, asked for the window that it takes."""
    stride = made.codec_shape.spatial_stride
    frames = made.codec_shape.latent_frames(member.num_frames)
    size = (member.height // stride, member.width // stride)
    # Learned positions hold for the published number of text tokens only.
    return Scene(made, frames, *size, float(member.fps), TEXT_DIM, NUM_TEXT_TOKENS)

"""Windowed audio cross-attention: what the frozen transformer hears through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ..config.tree import AdapterConfig
from ..errors import ConfigError
from .audio.base import FeatureGrid
from .windows import AudioWindows

_TIME_FREQUENCIES = 6


@dataclass(frozen=True)
class AudioContext:
    """What adapters attend to: projected audio in each latent frame's window, all encoders side by side.

    tokens: (B, F, W, audio_dim). visible: (F, W) bool. full: whether all of them are. keep: (B,) 1 where audio is
    heard, 0 where the sample is to be generated without audio. keys_values: per block, its keys and values
    (B * F, heads, W, d), if they were computed beforehand because many denoising steps share them.
    """

    tokens: torch.Tensor
    visible: torch.Tensor
    full: bool
    keep: torch.Tensor
    keys_values: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None

    def repeated(self, keep: torch.Tensor) -> AudioContext:
        """The batch several times over, (n B,) `keep` saying which copies hear: what batched guidance needs."""
        times = len(keep) // len(self.keep)
        cached = self.keys_values
        if cached is not None:
            cached = {
                name: (key.repeat(times, 1, 1, 1), value.repeat(times, 1, 1, 1))
                for name, (key, value) in cached.items()
            }
        return replace(self, tokens=self.tokens.repeat(times, 1, 1, 1), keep=keep, keys_values=cached)


class AudioProjector(nn.Module):
    """Features of every encoder to window tokens: projected to one width, tagged, marked with their relative time.

    The tag of an encoder is the bias of its projection.
    """

    def __init__(self, grids: Mapping[str, FeatureGrid], audio_dim: int) -> None:
        super().__init__()
        if taken := [name for name in grids if hasattr(nn.ModuleDict, name) or name in ("training",)]:
            raise ConfigError(
                f"model.audio.encoders.{taken[0]}: this word has a meaning to torch's modules; choose another name"
            )
        self.features = nn.ModuleDict({name: nn.Linear(grid.dim, audio_dim) for name, grid in grids.items()})
        self.time = nn.Linear(2 * _TIME_FREQUENCIES, audio_dim, bias=False)

    def forward(
        self, features: Mapping[str, torch.Tensor], windows: Mapping[str, AudioWindows], keep: torch.Tensor
    ) -> AudioContext:
        """Project each encoder's (B, T, D) and gather (B, F, W, audio_dim), W being the sum over encoders."""
        tokens = []
        for name, project in self.features.items():
            window = windows[name]
            gathered = project(features[name].to(self.time.weight.dtype))[:, window.index]
            tokens.append(gathered + self.time(_time_code(window.relative_sec).to(gathered.dtype)))
        visible = torch.cat([windows[name].visible for name in self.features], dim=1)
        return AudioContext(F.gelu(torch.cat(tokens, dim=2)), visible, bool(visible.all()), keep)


def _time_code(relative_sec: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of relative time, periods 4 s down to 1/8 s: (F, W) -> (F, W, 12)."""
    periods = 4.0 / 2.0 ** torch.arange(_TIME_FREQUENCIES, device=relative_sec.device)
    phase = 2 * math.pi * relative_sec[..., None] / periods
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


class WindowedAudioAttention(nn.Module):
    """Queries are the video tokens of a latent frame, keys and values the audio tokens of its window.

    The output projection starts at zero: an untrained adapter adds exactly nothing.
    """

    def __init__(self, hidden_dim: int, config: AdapterConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False)
        self.to_q = nn.Linear(hidden_dim, config.inner_dim)
        self.to_kv = nn.Linear(config.audio_dim, 2 * config.inner_dim)
        self.to_out = nn.Linear(config.inner_dim, hidden_dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def keys_values(self, context: AudioContext) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the context's tokens, each (B * F, heads, W, d)."""
        batch, frames, width, _ = context.tokens.shape
        key, value = (
            part.reshape(batch * frames, width, self.heads, -1).transpose(1, 2)
            for part in self.to_kv(context.tokens).chunk(2, dim=-1)
        )
        return key, value

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: AudioContext,
        keys_values: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """What to add to `hidden_states` (B, F * S, C), whose tokens run frame by frame; same shape and type."""
        batch, tokens, _ = hidden_states.shape
        frames = len(context.visible)
        spatial = tokens // frames
        # Adapters train in float32 over backbones that may be frozen in bfloat16.
        normed = self.norm(hidden_states.to(self.to_q.weight.dtype))
        query = self.to_q(normed).view(batch * frames, spatial, self.heads, -1).transpose(1, 2)
        key, value = keys_values or self.keys_values(context)
        mask = None if context.full else context.visible.repeat(batch, 1)[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged = attended.transpose(1, 2).reshape(batch, tokens, -1)
        added = self.to_out(merged) * context.keep.to(merged.dtype)[:, None, None]
        return added.to(hidden_states.dtype)

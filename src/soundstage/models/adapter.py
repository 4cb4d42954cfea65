"""Windowed audio cross-attention: the only parameters that train."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..config.tree import AdapterConfig
from .windows import AudioWindows

_TIME_FREQUENCIES = 6


@dataclass(frozen=True)
class AudioContext:
    """What adapters attend to: projected audio in each frame's window.

    tokens: (B, F, W, audio_dim). visible: (F, W) bool. keep: (B,) 1 where audio is heard, 0 where the sample is to be
    generated without audio.
    """

    tokens: torch.Tensor
    visible: torch.Tensor
    keep: torch.Tensor


class AudioProjector(nn.Module):
    """Features (B, T, D) to window tokens: projected together, then marked with their time relative to the frame."""

    def __init__(self, feature_dim: int, audio_dim: int) -> None:
        super().__init__()
        self.features = nn.Linear(feature_dim, audio_dim)
        self.time = nn.Linear(2 * _TIME_FREQUENCIES, audio_dim, bias=False)

    def forward(self, features: torch.Tensor, windows: AudioWindows, keep: torch.Tensor) -> AudioContext:
        """Project (B, T, D) and gather (B, F, W, audio_dim)."""
        projected = self.features(features)
        gathered = projected[:, windows.index]
        tokens = F.gelu(gathered + self.time(_time_code(windows.relative_sec).to(projected.dtype)))
        return AudioContext(tokens, windows.visible, keep)


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

    def forward(self, hidden_states: torch.Tensor, context: AudioContext) -> torch.Tensor:
        """What to add to `hidden_states` (B, F * S, C), whose tokens run frame by frame; same shape."""
        batch, tokens, _ = hidden_states.shape
        frames, width = context.visible.shape
        spatial = tokens // frames
        query = self.to_q(self.norm(hidden_states)).view(batch * frames, spatial, self.heads, -1).transpose(1, 2)
        key, value = (
            part.reshape(batch * frames, width, self.heads, -1).transpose(1, 2)
            for part in self.to_kv(context.tokens).chunk(2, dim=-1)
        )
        mask = context.visible.repeat(batch, 1)[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        merged = attended.transpose(1, 2).reshape(batch, tokens, -1)
        return self.to_out(merged) * context.keep.to(merged.dtype)[:, None, None]

"""Towers: from pictures or log-mel spectra to one vector a step of time. Each returns its rate with its vectors.

A video tower sees (B, T, H, W) normalised grey frames and gives (B, D, T - 1): one vector for each pair of neighbouring
frames, since it is motion that makes sound. An audio tower sees (B, bands, N) normalised log-mel frames and gives
(B, D, M), its vectors evenly spaced from the first mel frame on, `stride` mel frames apart.

Only the first two families are meant for a CPU. The families `r2plus1d` (Tran et al., "A Closer Look at Spatiotemporal
Convolutions", CVPR 2018; torchvision's class) and `ast` (Gong et al., "AST", Interspeech 2021; transformers' class) are
the full-size ones; they start from random weights here, for their inputs differ from those that public weights know.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ...config.tree import ScorerConfig


class VideoTower(Protocol):
    """(B, T, H, W) frames to (B, D, T - 1)."""

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Vectors of all frame pairs."""


class AudioTower(Protocol):
    """(B, bands, N) mel frames to (B, D, M), every `stride` mel frames."""

    stride: int

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """Vectors over time."""


class _TemporalBlock(nn.Module):
    """A residual pair of convolutions over time on (B, C, T)."""

    def __init__(self, channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.second = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))


def _pooled(maps: torch.Tensor) -> torch.Tensor:
    """Mean and maximum over the picture: (B, C, T, H, W) to (B, 2 C, T)."""
    return torch.cat([maps.mean((3, 4)), maps.amax((3, 4))], dim=1)


class ConvolutionalVideo(nn.Module):
    """Space-time convolutions over frame differences, pooled over the picture."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        width, dim = config.width, config.embedding_dim
        self.first = nn.Conv3d(1, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2))
        self.second = nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1)
        self.third = nn.Conv3d(2 * width, 3 * width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.out = nn.Conv1d(6 * width, dim, 1)
        self.temporal = nn.Sequential(_TemporalBlock(dim), _TemporalBlock(dim))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """See `VideoTower`."""
        maps = torch.diff(frames, dim=1)[:, None]
        for layer in (self.first, self.second, self.third):
            maps = F.gelu(layer(maps))
        vectors: torch.Tensor = self.temporal(self.out(_pooled(maps)))
        return vectors


class RecurrentVideo(nn.Module):
    """Picture by picture convolutions over both frames of a pair, then a GRU in both directions of time."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        width, dim = config.width, config.embedding_dim
        self.picture = nn.Sequential(
            nn.Conv2d(2, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.recurrent = nn.GRU(4 * width, dim, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * dim + 4 * width, dim)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """See `VideoTower`."""
        batch, pairs = len(frames), frames.shape[1] - 1
        both = torch.stack([frames[:, 1:] - frames[:, :-1], frames[:, 1:]], dim=2).flatten(0, 1)
        maps = self.picture(both)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1).unflatten(0, (batch, pairs))
        context, _ = self.recurrent(pooled)
        vectors: torch.Tensor = self.out(torch.cat([context, pooled], dim=2)).transpose(1, 2)
        return vectors


class R2Plus1dVideo(nn.Module):
    """torchvision's R(2+1)D-18 with its strides over time removed: one vector a frame pair."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        from torchvision.models.video import r2plus1d_18

        network = r2plus1d_18(weights=None)
        for module in network.modules():
            if isinstance(module, nn.Conv3d) and module.stride[0] > 1:
                module.stride = (1, *module.stride[1:])
        self.trunk = nn.Sequential(network.stem, network.layer1, network.layer2, network.layer3, network.layer4)
        self.out = nn.Conv1d(2 * 512, config.embedding_dim, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """See `VideoTower`."""
        # Three channels as the network has: the change, the picture after it, the picture before it.
        pairs = torch.stack([torch.diff(frames, dim=1), frames[:, 1:], frames[:, :-1]], dim=1)
        vectors: torch.Tensor = self.out(_pooled(self.trunk(pairs)))
        return vectors


class ConvolutionalAudio(nn.Module):
    """Convolutions over time on all mel bands together."""

    stride = 1

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        hidden, dim = 2 * config.embedding_dim, config.embedding_dim
        self.first = nn.Conv1d(config.num_mel_bins, hidden, 5, padding=2)
        self.blocks = nn.Sequential(_TemporalBlock(hidden), _TemporalBlock(hidden))
        self.out = nn.Conv1d(hidden, dim, 1)
        self.last = _TemporalBlock(dim)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """See `AudioTower`."""
        vectors: torch.Tensor = self.last(self.out(self.blocks(F.gelu(self.first(mel)))))
        return vectors


class TransformerAudio(nn.Module):
    """A short stem, then self-attention within a third of a second: it hears neighbours, not its place in the clip."""

    stride = 2
    _REACH = 16

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.stem = nn.Conv1d(config.num_mel_bins, dim, 5, stride=self.stride, padding=2)
        self.local = nn.Conv1d(dim, dim, 5, padding=2)
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Conv1d(2 * dim, dim, 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """See `AudioTower`."""
        tokens = F.gelu(self.stem(mel))
        tokens = tokens + F.gelu(self.local(tokens))
        index = torch.arange(tokens.shape[-1], device=tokens.device)
        far = (index[:, None] - index[None, :]).abs() > self._REACH
        context = self.encoder(tokens.transpose(1, 2), mask=far).transpose(1, 2)
        vectors: torch.Tensor = self.out(torch.cat([tokens, context], dim=1))
        return vectors


class AstAudio(nn.Module):
    """transformers' Audio Spectrogram Transformer over patches of 16 bands and 16 mel frames, averaged over bands.

    It learns a place for every patch. Sound is therefore heard in segments: no place is met that training windows do
    not have, and clips may be of any length.
    """

    stride = 4
    _PATCH = 16

    def __init__(self, config: ScorerConfig, hidden_size: int = 384, layers: int = 6, segment: int = 96) -> None:
        """`segment` is the number of mel frames heard together, a multiple of the stride."""
        super().__init__()
        from transformers import ASTConfig, ASTModel

        self._bands = config.num_mel_bins // self._PATCH
        self._segment = segment
        self.model = ASTModel(
            ASTConfig(
                hidden_size=hidden_size,
                num_hidden_layers=layers,
                num_attention_heads=6,
                intermediate_size=4 * hidden_size,
                patch_size=self._PATCH,
                frequency_stride=self._PATCH,
                time_stride=self.stride,
                max_length=segment + self._PATCH,
                num_mel_bins=config.num_mel_bins,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        self.out = nn.Linear(hidden_size, config.embedding_dim)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """See `AudioTower`."""
        length = mel.shape[-1]
        count = -(-length // self._segment)
        # Half a patch of margin on both sides: patch k is centred on mel frame 4 k, whichever segment it is in.
        half = self._PATCH // 2
        padded = F.pad(mel, (half, count * self._segment - length + half))
        segments = padded.unfold(-1, self._segment + self._PATCH, self._segment)
        hidden = self.model(segments.permute(0, 2, 3, 1).flatten(0, 1)).last_hidden_state[:, 2:]
        # The last patch of a segment is the first one of the next.
        over_time = self.out(hidden.unflatten(1, (self._bands, -1)).mean(1))[:, :-1]
        vectors: torch.Tensor = over_time.unflatten(0, (len(mel), count)).flatten(1, 2).transpose(1, 2)
        return vectors[..., : -(-length // self.stride)]


VIDEO_TOWERS = {"convolutional": ConvolutionalVideo, "recurrent": RecurrentVideo, "r2plus1d": R2Plus1dVideo}
AUDIO_TOWERS = {"convolutional": ConvolutionalAudio, "transformer": TransformerAudio, "ast": AstAudio}

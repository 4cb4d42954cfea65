"""What the rest of the house needs to know of a frozen video backbone, whatever its family."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

Prediction = Literal["velocity", "clean_residual"]
DESCRIPTION_FILE = "backbone.json"


class Codec(Protocol):
    """Between pictures and latents."""

    channels: int
    temporal_stride: int
    spatial_stride: int

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to clean latents (B, C, F, h, w) float32."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8."""


class TextEncoder(Protocol):
    """From captions to what the transformer's cross-attention reads."""

    def encode(self, captions: list[str]) -> torch.Tensor:
        """Captions to embeddings (B, L, text_dim) float32."""


@dataclass
class Backbone:
    """A loaded backbone."""

    family: str
    transformer: nn.Module
    blocks: nn.ModuleList
    hidden_dim: int
    codec: Codec
    text: TextEncoder
    scheduler_config: dict[str, Any]
    """of diffusers' FlowMatchEulerDiscreteScheduler"""
    prediction: Prediction
    fingerprint: str
    stand_in: bool

    def model_input(self, noisy_latents: torch.Tensor, first_latents: torch.Tensor) -> torch.Tensor:
        """Give the first frame: its clean latents (B, C, 1, h, w) beside the noisy ones, on every latent frame."""
        given = first_latents.expand(-1, -1, noisy_latents.shape[2], -1, -1)
        return torch.cat([noisy_latents, given], dim=1)

    def target(self, clean: torch.Tensor, noise: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """What the network shall output."""
        return noise - clean if self.prediction == "velocity" else clean - first

    def velocity(
        self, output: torch.Tensor, noisy: torch.Tensor, sigma: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """The velocity that the network's output stands for; `sigma` broadcasts against `noisy`."""
        if self.prediction == "velocity":
            return output
        return (noisy - (first + output)) / sigma


def weights_fingerprint(module: nn.Module, settings: dict[str, Any]) -> str:
    """SHA-256 over every weight (name, dtype, shape, bytes) and the settings that give them meaning."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """The `backbone.json` beside a saved backbone; empty for a plain diffusers model."""
    path = folder / DESCRIPTION_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}

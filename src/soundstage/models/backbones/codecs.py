"""Codecs between pictures and latents."""

from __future__ import annotations

import torch


class PixelCodec:
    """Latents that are the pixels themselves, scaled to -1..1: lossless, for stand-ins too small to need a VAE."""

    channels = 3
    temporal_stride = 1
    spatial_stride = 1

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to latents (B, 3, T, H, W) in -1..1."""
        return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8; values outside -1..1 are clipped."""
        pixels = ((latents.float().clamp(-1, 1) + 1.0) * 127.5).round()
        return pixels.to(torch.uint8).permute(0, 2, 3, 4, 1)

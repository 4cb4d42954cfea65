"""Codecs between pictures and latents."""

from __future__ import annotations

from typing import Any

import torch


class PixelCodec:
    """Latents that are the pixels themselves, scaled to -1..1: lossless, for stand-ins too small to need a VAE."""

    channels = 3
    temporal_stride = 1
    spatial_stride = 1

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to latents (B, 3, T, H, W) in -1..1."""
        return signed_pixels(frames)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8; values outside -1..1 are clipped."""
        return frames_of(latents)


class VaeCodec:
    """A diffusers video autoencoder; latents are normalised as its family's pipeline does: `(z - shift) * scale`.

    Encoding takes the mode of the posterior, so that equal pictures give equal latents.
    """

    def __init__(
        self,
        vae: Any,
        shape: tuple[int, int, int],
        shift: torch.Tensor,
        scale: torch.Tensor,
        decode_timestep: float | None = None,
    ) -> None:
        """`shape`: channels, temporal and spatial stride. shift, scale: (C,) or scalars.

        `decode_timestep` is for autoencoders whose decoder also denoises: the level they are told.
        """
        self.vae = vae
        self.channels, self.temporal_stride, self.spatial_stride = shape
        self._shift, self._scale = (part.float().reshape(1, -1, 1, 1, 1) for part in (shift, scale))
        self._decode_timestep = decode_timestep

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to latents (B, C, F, h, w) float32."""
        pixels = signed_pixels(frames).to(self.vae.device, self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode().float().cpu()
        normalised: torch.Tensor = (latents - self._shift) * self._scale
        return normalised

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8."""
        plain = (latents.float().cpu() / self._scale + self._shift).to(self.vae.device, self.vae.dtype)
        told: tuple[torch.Tensor, ...] = ()
        if self._decode_timestep is not None:
            told = (torch.full((len(plain),), self._decode_timestep, device=plain.device, dtype=plain.dtype),)
        return frames_of(self.vae.decode(plain, *told, return_dict=False)[0].cpu())


def signed_pixels(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, T, H, W, 3) uint8 to (B, 3, T, H, W) float32 in -1..1."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def frames_of(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, T, H, W) in -1..1 to frames (B, T, H, W, 3) uint8; values outside are clipped."""
    levels = ((pixels.float().clamp(-1, 1) + 1.0) * 127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 4, 1)

"""Codecs between pictures and latents."""

from __future__ import annotations

from typing import Any

import torch

_COLOURS = 3


class PixelCodec:
    """Latents that are the pixels themselves, scaled to -1..1: lossless, for stand-ins too small to need a VAE.

    With a temporal stride s they cover time as a causal video VAE's do: latent 0 is frame 0, latent i the frames
    s*(i-1)+1 .. s*i, stacked in its channels in their order; latent 0 holds its frame s times.
    """

    spatial_stride = 1

    def __init__(self, temporal_stride: int = 1) -> None:
        self.temporal_stride = temporal_stride
        self.channels = _COLOURS * temporal_stride

    @property
    def name(self) -> str:
        """What shards and saved backbones call it."""
        return "pixels" if self.temporal_stride == 1 else f"pixels, {self.temporal_stride} frames a latent"

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to latents (B, 3 * s, F, H, W) in -1..1, where T is s * (F - 1) + 1.

        Raises:
            ValueError: T is another number.
        """
        stride, count = self.temporal_stride, frames.shape[1]
        if count < 1 or (count - 1) % stride:
            raise ValueError(
                f"{count} frames are no whole number of latents at temporal stride {stride}: expected {stride} * k + 1"
            )
        pixels = signed_pixels(frames)
        padded = torch.cat([pixels[:, :, :1]] * (stride - 1) + [pixels], dim=2)
        return padded.unflatten(2, (-1, stride)).permute(0, 3, 1, 2, 4, 5).flatten(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to frames (B, T, H, W, 3) uint8; values outside -1..1 are clipped.

        Raises:
            ValueError: the channels are not those of this stride.
        """
        if latents.shape[1] != self.channels:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, expected {self.channels}: {_COLOURS} colours of "
                f"{self.temporal_stride} frames"
            )
        padded = latents.unflatten(1, (self.temporal_stride, _COLOURS)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        return frames_of(padded[:, :, self.temporal_stride - 1 :])

    def previous(self, latents: torch.Tensor) -> torch.Tensor:
        """For every element the same pixel one frame earlier, inside its latent or in the one before; same shape.

        The first frame comes after itself.
        """
        last = latents[:, -_COLOURS:]
        before = torch.cat([last[:, :, :1], last[:, :, :-1]], dim=2)
        return torch.cat([before, latents[:, :-_COLOURS]], dim=1)


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
        *,
        first_apart: bool = False,
    ) -> None:
        """`shape`: channels, temporal and spatial stride. shift, scale: (C,) or scalars.

        `decode_timestep` is for autoencoders whose decoder also denoises: the level they are told. `first_apart` is
        for those that are not strictly causal: the first frame is encoded by itself, so that a model is trained on the
        first latent that it will be given with a picture alone.
        """
        self.vae = vae
        self.channels, self.temporal_stride, self.spatial_stride = shape
        self._shift, self._scale = (part.float().reshape(1, -1, 1, 1, 1) for part in (shift, scale))
        self._decode_timestep, self._first_apart = decode_timestep, first_apart

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to latents (B, C, F, h, w) float32."""
        pixels = signed_pixels(frames).to(self.vae.device, self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode().float().cpu()
        if self._first_apart and pixels.shape[2] > 1:
            first = self.vae.encode(pixels[:, :, :1]).latent_dist.mode().float().cpu()
            latents = torch.cat([first, latents[:, :, 1:]], dim=2)
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

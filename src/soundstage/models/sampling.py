"""From noise to latents under image, caption and sound, by the backbone's own scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .adapter import AudioContext
from .backbones.base import Backbone
from .conditioned import AudioConditionedTransformer


@dataclass(frozen=True)
class Guidance:
    """Scales of classifier-free guidance (Ho and Salimans, 2022); 1 is none.

    audio: against the same model without its audio layers. text: against the null caption.
    """

    audio: float = 1.0
    text: float = 1.0


@torch.no_grad()
def sample_latents(
    model: AudioConditionedTransformer,
    backbone: Backbone,
    first_latents: torch.Tensor,
    text: torch.Tensor,
    null_text: torch.Tensor,
    audio: AudioContext | None,
    *,
    num_latent_frames: int,
    seeds: Sequence[int],
    num_inference_steps: int,
    guidance: Guidance,
) -> torch.Tensor:
    """Generate latents (B, C, F, h, w).

    first_latents: (B, C, 1, h, w). text: (B, L, D). null_text: (1, L, D). `seeds`: one a sample, so that a sample's
    noise does not depend on its batch. The audio context is projected once, not once a step.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(**backbone.scheduler_config)
    scheduler.set_timesteps(num_inference_steps)
    batch, channels, _, height, width = first_latents.shape
    shape = (channels, num_latent_frames, height, width)
    latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        times = timestep.expand(batch)

        def velocity(
            caption: torch.Tensor,
            heard: AudioContext | None,
            noisy: torch.Tensor = latents,
            at: torch.Tensor = times,
            level: torch.Tensor = sigma,
        ) -> torch.Tensor:
            output = model(backbone.model_input(noisy, first_latents), at, caption, heard)
            return backbone.velocity(output, noisy, level, first_latents)

        full = velocity(text, audio)
        guided = full
        if audio is not None and guidance.audio != 1.0:
            guided = guided + (guidance.audio - 1.0) * (full - velocity(text, None))
        if guidance.text != 1.0:
            guided = guided + (guidance.text - 1.0) * (full - velocity(null_text.expand_as(text), audio))
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    return latents

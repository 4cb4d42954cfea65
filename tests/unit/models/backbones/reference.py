"""Sampling by us without sound, and what it takes to let diffusers' own pipelines do the same."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from PIL import Image

from soundstage.models.backbones.base import Backbone
from soundstage.models.conditioned import AudioConditionedTransformer
from soundstage.models.sampling import Guidance, sample_latents

from .tiny import Member, Saved, video

CAPTIONS = ["a red drum is  struck &amp; rings", "rain"]
SEEDS = [11, 12]
STEPS = 4
# The same float32 operations on values of order 1, in another order where guidance is applied and noise is scaled:
# some 1e-7 a step, amplified by the schedulers' divisions by small noise levels. A wrong timestep, position or frame
# moves latents by 1e-2 and more.
CLOSE: dict[str, float] = {"atol": 1e-4, "rtol": 1e-4}


def first_latents(made: Backbone, member: Member, batch: int) -> torch.Tensor:
    """Clean latents of the first frame of `video`, the same for the whole batch."""
    return made.codec.encode(video(member)[:, :1]).expand(batch, -1, -1, -1, -1)


def image(member: Member) -> Image.Image:
    """The same frame as a pipeline takes it."""
    return Image.fromarray(video(member)[0, 0].numpy())


def noise(made: Backbone, first: torch.Tensor, frames: int, seeds: list[int]) -> torch.Tensor:
    """What the sampler draws for `seeds`: (B, C, F, h, w)."""
    shape = (made.codec_shape.channels, frames, *first.shape[3:])
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def ours(made: Backbone, member: Member, scale: float, batch: int = 2) -> torch.Tensor:
    """Latents of the deaf model."""
    frames = made.check_window(member.num_frames, member.height, member.width)
    return sample_latents(
        AudioConditionedTransformer(made, None).eval(),
        made,
        first_latents(made, member, batch),
        made.text.encode(CAPTIONS[:batch]),
        made.text.encode([""]),
        None,
        num_latent_frames=frames,
        fps=member.fps,
        seeds=SEEDS[:batch],
        num_inference_steps=STEPS,
        guidance=Guidance(text=scale),
    )


def theirs(saved: Saved, kind: str, **arguments: Any) -> torch.Tensor:
    """Latents of the diffusers pipeline `kind` over the saved one's parts; `init` are arguments of its constructor."""
    member = saved.member
    parts = {name: part for name, part in saved.pipeline.components.items() if part is not None}
    pipeline = getattr(diffusers, kind)(**parts, **arguments.pop("init", {}))
    pipeline.set_progress_bar_config(disable=True)
    found: torch.Tensor = pipeline(
        height=member.height,
        width=member.width,
        num_frames=member.num_frames,
        num_inference_steps=STEPS,
        output_type="latent",
        return_dict=False,
        **arguments,
    )[0]
    return found

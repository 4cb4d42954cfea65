"""From noise to latents under image, caption and sound, by the backbone's own scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .adapter import AudioContext
from .backbones.base import Backbone, TextEmbedding
from .conditioned import AudioConditionedTransformer


@dataclass(frozen=True)
class Guidance:
    """Scales of classifier-free guidance (Ho and Salimans, 2022); 1 is none.

    audio: against the same model without its audio layers. text: against the null caption. batched: the guided
    passes run as one larger batch; the same result up to rounding, faster where there is memory for it.
    """

    audio: float = 1.0
    text: float = 1.0
    batched: bool = False


@torch.no_grad()
def sample_latents(
    model: AudioConditionedTransformer,
    backbone: Backbone,
    first_latents: torch.Tensor,
    text: TextEmbedding,
    null_text: TextEmbedding,
    audio: AudioContext | None,
    *,
    num_latent_frames: int,
    fps: float,
    seeds: Sequence[int],
    num_inference_steps: int,
    guidance: Guidance,
    cache_audio: bool = True,
) -> torch.Tensor:
    """Generate latents (B, C, F, h, w).

    first_latents: (B, C, 1, h, w). text: of B captions. null_text: of the empty one. `seeds`: one a sample, so that a
    sample's noise does not depend on its batch. With `cache_audio`, the audio's keys and values are computed once, not
    at every step.
    """
    if audio is not None and cache_audio and model.adapters is not None:
        audio = model.adapters.cached(audio)
    batch, channels, _, height, width = first_latents.shape
    scheduler = backbone.scheduler()
    tokens = num_latent_frames * (height // backbone.spatial_patch) * (width // backbone.spatial_patch)
    backbone.set_timesteps(scheduler, num_inference_steps, tokens)
    shape = (channels, num_latent_frames, height, width)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    latents = drawn.to(first_latents) * getattr(scheduler, "init_noise_sigma", 1.0)
    passes = _Passes(model, backbone, first_latents, text, null_text.expand(batch), audio, fps, guidance)
    step = _Stepper(scheduler, generators)
    for index, timestep in enumerate(scheduler.timesteps):
        latents = backbone.with_first(latents, first_latents)
        sigma = scheduler.sigmas[index] if hasattr(scheduler, "sigmas") else timestep / len(scheduler.alphas_cumprod)
        output = passes(latents, timestep)
        output = backbone.noising.for_scheduler(output, latents, sigma, first_latents)
        latents = step(output, index, latents)
    return backbone.with_first(latents, first_latents)


class _Passes:
    """The network's output under guidance, as one batch or one pass after another."""

    def __init__(
        self,
        model: AudioConditionedTransformer,
        backbone: Backbone,
        first: torch.Tensor,
        text: TextEmbedding,
        null_text: TextEmbedding,
        audio: AudioContext | None,
        fps: float,
        guidance: Guidance,
    ) -> None:
        self._model, self._backbone, self._first, self._audio, self._fps = model, backbone, first, audio, fps
        self._batched = guidance.batched
        # What each pass reads and hears, and its share: shares sum to 1, so no guidance leaves the plain output.
        variants = [(text, True, 1.0)]
        if audio is not None and guidance.audio != 1.0:
            variants.append((text, False, 1.0 - guidance.audio))
        if guidance.text != 1.0:
            variants.append((null_text, True, 1.0 - guidance.text))
        rest = sum(share for _, _, share in variants[1:])
        self._variants = [(text, True, 1.0 - rest), *variants[1:]]

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        if len(self._variants) > 1 and self._batched:
            outputs = self._together(latents, timestep)
        else:
            outputs = [
                self._run(latents, timestep, text, self._audio if hears else None) for text, hears, _ in self._variants
            ]
        guided = outputs[0] * self._variants[0][2] if len(outputs) > 1 else outputs[0]
        for output, (_, _, share) in zip(outputs[1:], self._variants[1:], strict=True):
            guided = guided + share * output
        return guided

    def _together(self, latents: torch.Tensor, timestep: torch.Tensor) -> list[torch.Tensor]:
        count, batch = len(self._variants), len(latents)
        text = TextEmbedding.cat([text for text, _, _ in self._variants])
        audio = self._audio
        if audio is not None:
            heard = [audio.keep if hears else torch.zeros_like(audio.keep) for _, hears, _ in self._variants]
            audio = audio.repeated(torch.cat(heard))
        output = self._run(latents.repeat(count, 1, 1, 1, 1), timestep, text, audio)
        return list(output.split(batch))

    def _run(
        self, latents: torch.Tensor, timestep: torch.Tensor, text: TextEmbedding, audio: AudioContext | None
    ) -> torch.Tensor:
        first = self._first.repeat(len(latents) // len(self._first), 1, 1, 1, 1)
        told = timestep.to(latents.device).expand(len(latents))  # schedulers keep their steps on the CPU
        output: torch.Tensor = self._model(latents, first, told, text, self._fps, audio)
        return output


class _Stepper:
    """One call for schedulers of either signature: CogVideoX's DPM solver wants its last estimate back, and noise."""

    def __init__(self, scheduler: Any, generators: list[torch.Generator]) -> None:
        self._scheduler, self._generators = scheduler, generators
        self._estimate: torch.Tensor | None = None
        self._remembers = type(scheduler).__name__ == "CogVideoXDPMScheduler"

    def __call__(self, output: torch.Tensor, index: int, latents: torch.Tensor) -> torch.Tensor:
        times = self._scheduler.timesteps
        if not self._remembers:
            stepped: torch.Tensor = self._scheduler.step(output, times[index], latents, return_dict=False)[0]
            return stepped
        before = times[index - 1] if index > 0 else None
        latents, self._estimate = self._scheduler.step(
            output, self._estimate, times[index], before, latents, generator=self._generators, return_dict=False
        )
        return latents

"""The sampler against flows whose end is known in closed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from soundstage.config.tree import AdapterConfig
from soundstage.models.adapter import AudioContext
from soundstage.models.backbones.base import Backbone, Prediction
from soundstage.models.backbones.codecs import PixelCodec
from soundstage.models.backbones.wan import StandInText
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.sampling import Guidance, sample_latents
from soundstage.models.windows import audio_windows, frame_spans

from .makers import backbone, make_heard, model_config

FRAMES, SIZE, HIDDEN = 3, 4, 8
NO_GUIDANCE = Guidance()


class KnownField(nn.Module):
    """A transformer whose output is its caption's mean, plus what adapters add after its one block."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity()])
        self.calls = 0

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        self.calls += 1
        batch, channels, frames, height, width = hidden_states.shape
        tokens = self.blocks[0](torch.zeros(batch, frames * height * width, HIDDEN))
        added = tokens.mean(dim=-1).view(batch, 1, frames, height, width)
        caption = encoder_hidden_states.mean(dim=(1, 2)).view(batch, 1, 1, 1, 1)
        return ((added + caption).expand(batch, channels // 2, -1, -1, -1),)


def known(prediction: Prediction, **scheduler: Any) -> Backbone:
    field = KnownField()
    settings = {"num_train_timesteps": 1000, "shift": 1.0} | scheduler
    return Backbone(
        "known", field, field.blocks, HIDDEN, PixelCodec(), StandInText.create(8), settings, prediction, "", True
    )


def audible(bias: float, made: Backbone) -> tuple[AudioConditionedTransformer, AudioContext]:
    """A model whose adapter adds `bias` wherever audio is heard."""
    adapters = AudioAdapters(HIDDEN, 1, 5, AdapterConfig(inner_dim=2, audio_dim=4))
    nn.init.constant_(adapters.attentions["0"].to_out.bias, bias)
    windows = audio_windows(frame_spans(FRAMES, 6.0), torch.arange(-20, 80) / 100, 0.1)
    context = adapters.context(torch.ones(2, 100, 5), windows, torch.ones(2))
    return AudioConditionedTransformer(made.transformer, made.blocks, adapters), context


def noise(seeds: list[int]) -> torch.Tensor:
    shape = (3, FRAMES, SIZE, SIZE)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def run(
    model: AudioConditionedTransformer,
    made: Backbone,
    audio: AudioContext | None = None,
    guidance: Guidance = NO_GUIDANCE,
    steps: int = 5,
    text: float = 0.0,
) -> torch.Tensor:
    first = torch.full((2, 3, 1, SIZE, SIZE), 0.25)
    return sample_latents(
        model,
        made,
        first,
        torch.full((2, 4, 8), text),
        torch.full((1, 4, 8), 0.1),
        audio,
        num_latent_frames=FRAMES,
        seeds=[11, 12],
        num_inference_steps=steps,
        guidance=guidance,
    )


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_a_constant_velocity_is_followed_to_its_end(steps: int, shift: float) -> None:
    # dx/dsigma = v from sigma 1 to 0: whatever the steps between, x(0) = noise - v.
    made = known("velocity", shift=shift)
    model = AudioConditionedTransformer(made.transformer, made.blocks, None)
    found = run(model, made, steps=steps, text=0.7)
    torch.testing.assert_close(found, noise([11, 12]) - 0.7, atol=1e-5, rtol=0)
    assert made.transformer.calls == steps


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_constant_clean_residual_ends_on_it(steps: int) -> None:
    # A network sure of its clean clip pulls every noise there: x(0) = first + output.
    made = known("clean_residual")
    model = AudioConditionedTransformer(made.transformer, made.blocks, None)
    found = run(model, made, steps=steps, text=0.4)
    torch.testing.assert_close(found, torch.full_like(found, 0.25 + 0.4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("audio_scale", "text_scale"), [(1.0, 1.0), (3.0, 1.0), (1.0, 4.0), (2.0, 5.0), (0.0, 1.0)])
def test_guidance_moves_away_from_the_deaf_and_the_captionless_model(audio_scale: float, text_scale: float) -> None:
    made = known("velocity")
    model, context = audible(0.3, made)
    found = run(model, made, context, Guidance(audio_scale, text_scale), steps=4, text=0.7)
    # The field is caption (0.7; null 0.1) + audio (0.3; deaf 0): both differences are scaled by hand.
    velocity = (0.7 + 0.3) + (audio_scale - 1) * 0.3 + (text_scale - 1) * (0.7 - 0.1)
    torch.testing.assert_close(found, noise([11, 12]) - velocity, atol=1e-5, rtol=0)
    branches = 1 + (audio_scale != 1.0) + (text_scale != 1.0)
    assert made.transformer.calls == 4 * branches


def test_without_audio_no_second_branch_is_computed() -> None:
    made = known("velocity")
    model, _ = audible(0.3, made)
    found = run(model, made, None, Guidance(audio=4.0), steps=4, text=0.7)
    torch.testing.assert_close(found, noise([11, 12]) - 0.7, atol=1e-5, rtol=0)
    assert made.transformer.calls == 4


def test_a_sample_does_not_depend_on_its_batch() -> None:
    config = model_config()
    made = backbone(config)
    adapters = AudioAdapters(made.hidden_dim, 2, 17, config.adapter)
    make_heard(adapters)
    model = AudioConditionedTransformer(made.transformer, made.blocks, adapters)
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 3, 1, 16, 16, generator=generator)
    features = torch.randn(3, 160, 17, generator=generator)
    windows = audio_windows(frame_spans(6, 6.0), torch.arange(-30, 130) / 100, 0.25)
    text = made.text.encode(["one", "two", "three"])

    def sample(chosen: list[int]) -> torch.Tensor:
        context = adapters.context(features[chosen], windows, torch.ones(len(chosen)))
        seeds = [40 + index for index in chosen]
        return sample_latents(
            *(model, made, first[chosen], text[chosen], made.text.encode([""]), context),
            num_latent_frames=6,
            seeds=seeds,
            num_inference_steps=3,
            guidance=Guidance(2.0, 2.0),
        )

    together, shuffled = sample([0, 1, 2]), sample([2, 0])
    # Equal up to the order of float32 sums, which matrix products choose by batch size.
    torch.testing.assert_close(shuffled, together[[2, 0]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sample([1]), together[[1]], atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1

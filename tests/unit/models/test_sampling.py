"""The sampler against flows whose end is known in closed form."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from soundstage.models.adapter import AudioContext
from soundstage.models.backbones.base import TextEmbedding
from soundstage.models.conditioned import AudioConditionedTransformer
from soundstage.models.sampling import Guidance, sample_latents

from .known import DDIM, DPM, EULER, FPS, FRAMES, SIZE, UNIPC, Known, audible, caption, known
from .makers import WINDOW, Scene, adapters_for, backbone, make_heard, model_config

NO_GUIDANCE = Guidance()
FIRST = 0.25
SCALES = [(1.0, 1.0), (3.0, 1.0), (1.0, 4.0), (2.0, 5.0), (0.0, 1.0)]


def noise(seeds: list[int]) -> torch.Tensor:
    shape = (3, FRAMES, SIZE, SIZE)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def run(
    model: AudioConditionedTransformer,
    made: Known,
    audio: AudioContext | None = None,
    guidance: Guidance = NO_GUIDANCE,
    steps: int = 5,
    text: float = 0.0,
    seeds: tuple[int, ...] = (11, 12),
) -> torch.Tensor:
    return sample_latents(
        model,
        made,
        torch.full((len(seeds), 3, 1, SIZE, SIZE), FIRST),
        caption(text, len(seeds)),
        caption(0.1, 1),
        audio,
        num_latent_frames=FRAMES,
        fps=FPS,
        seeds=seeds,
        num_inference_steps=steps,
        guidance=guidance,
    )


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_a_constant_velocity_is_followed_to_its_end(steps: int, shift: float) -> None:
    # dx/dsigma = v from sigma 1 to 0: whatever the steps between, x(0) = noise - v.
    made = known(shift=shift)
    model = AudioConditionedTransformer(made, None)
    found = run(model, made, steps=steps, text=0.7)
    torch.testing.assert_close(found, noise([11, 12]) - 0.7, atol=1e-5, rtol=0)
    assert len(made.field_module.inputs) == steps


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("flow_shift", [3.0, 5.0])
def test_wans_multistep_solver_follows_it_too(steps: int, flow_shift: float) -> None:
    # A constant velocity is a constant clean clip, which a multistep solver extrapolates without error. It starts at
    # sigma = 1 - 1e-6; the rest is float32.
    made = known(UNIPC, flow_shift=flow_shift)
    found = run(AudioConditionedTransformer(made, None), made, steps=steps, text=0.7)
    torch.testing.assert_close(found, noise([11, 12]) - 0.7, atol=1e-5, rtol=0)
    assert len(made.field_module.inputs) == steps


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_constant_clean_residual_ends_on_it(steps: int) -> None:
    # A network sure of its clean clip pulls every noise there: x(0) = first + output.
    made = known(knows="residual")
    model = AudioConditionedTransformer(made, None)
    found = run(model, made, steps=steps, text=0.4)
    torch.testing.assert_close(found, torch.full_like(found, FIRST + 0.4), atol=1e-5, rtol=0)


# Numbers that divide the 1000 timesteps: after any other, these schedulers stop at timestep 0 instead of at clean.
@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("scheduler", [DDIM, DPM], ids=["ddim", "dpm"])
def test_diffusion_that_is_sure_of_its_clip_ends_on_it(scheduler: dict[str, Any], steps: int) -> None:
    made = known(scheduler, knows="clean")
    found = run(AudioConditionedTransformer(made, None), made, steps=steps, text=0.4)
    # The last step puts out the clean clip itself, a few roundings of 6e-8 away.
    torch.testing.assert_close(found, torch.full_like(found, 0.4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scheduler", [EULER, UNIPC, DDIM, DPM], ids=["euler", "unipc", "ddim", "dpm"])
def test_a_first_latent_that_is_given_clean_stays_clean(scheduler: dict[str, Any]) -> None:
    knows: Any = "clean" if scheduler in (DDIM, DPM) else "velocity"
    given, free = known(scheduler, knows, "clean_latent"), known(scheduler, knows)
    found, other = (run(AudioConditionedTransformer(made, None), made, text=0.7) for made in (given, free))
    assert torch.equal(found[:, :, :1], torch.full_like(found[:, :, :1], FIRST))
    # The network saw it clean at every step, and the frames after it as if nothing were given.
    assert len(given.field_module.inputs) == 5
    for seen, unseen in zip(given.field_module.inputs, free.field_module.inputs, strict=True):
        assert torch.equal(seen[:, :, :1], torch.full_like(seen[:, :, :1], FIRST))
        assert not torch.allclose(unseen[:, :, :1], seen[:, :, :1], atol=0.1)
        assert torch.equal(seen[:, :, 1:], unseen[:, :, 1:])
    assert torch.equal(found[:, :, 1:], other[:, :, 1:])
    # Where the first frame comes as channels, its latent is generated like all others.
    assert not torch.allclose(other[:, :, :1], found[:, :, :1], atol=0.1)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("audio_scale", "text_scale"), SCALES)
def test_guidance_moves_away_from_the_deaf_and_the_captionless_model(
    audio_scale: float, text_scale: float, batched: bool
) -> None:
    made = known()
    model, context = audible(0.3, made)
    found = run(model, made, context, Guidance(audio_scale, text_scale, batched), steps=4, text=0.7)
    # The field is caption (0.7; null 0.1) + audio (0.3; deaf 0): both differences are scaled by hand.
    velocity = (0.7 + 0.3) + (audio_scale - 1) * 0.3 + (text_scale - 1) * (0.7 - 0.1)
    torch.testing.assert_close(found, noise([11, 12]) - velocity, atol=1e-5, rtol=0)
    branches = 1 + (audio_scale != 1.0) + (text_scale != 1.0)
    passes = [len(seen) for seen in made.field_module.inputs]
    assert passes == ([2 * branches] * 4 if batched else [2] * 4 * branches)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("audio_scale", "text_scale"), SCALES)
def test_audio_guidance_leaves_the_low_rank_update_on(audio_scale: float, text_scale: float, batched: bool) -> None:
    made = known()
    model, context = audible(0.3, made, updated=-0.2)
    found = run(model, made, context, Guidance(audio_scale, text_scale, batched), steps=4, text=0.7)
    # The update is in every branch: however guided, its 0.2 are there once.
    velocity = (0.7 + 0.3 - 0.2) + (audio_scale - 1) * 0.3 + (text_scale - 1) * (0.7 - 0.1)
    torch.testing.assert_close(found, noise([11, 12]) - velocity, atol=1e-5, rtol=0)
    deaf = run(model, made, None, steps=4, text=0.7)
    torch.testing.assert_close(deaf, noise([11, 12]) - (0.7 - 0.2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batched", [False, True])
def test_without_audio_no_second_branch_is_computed(batched: bool) -> None:
    made = known()
    model, _ = audible(0.3, made)
    found = run(model, made, None, Guidance(audio=4.0, batched=batched), steps=4, text=0.7)
    torch.testing.assert_close(found, noise([11, 12]) - 0.7, atol=1e-5, rtol=0)
    assert [len(seen) for seen in made.field_module.inputs] == [2] * 4


@pytest.mark.parametrize("scheduler", [EULER, UNIPC, DDIM, DPM], ids=["euler", "unipc", "ddim", "dpm"])
def test_a_samples_noise_is_its_seeds_alone(scheduler: dict[str, Any]) -> None:
    # The known field is elementwise: not a bit may come from the neighbours. The last solver draws noise at every step.
    made = known(scheduler)
    model = AudioConditionedTransformer(made, None)
    torch.manual_seed(1)
    together = run(model, made, text=0.2, seeds=(3, 4, 5))
    torch.manual_seed(2)
    assert torch.equal(run(model, made, text=0.2, seeds=(5, 3)), together[[2, 0]])
    assert torch.equal(run(model, made, text=0.2, seeds=(4,)), together[[1]])
    assert (together[0] - together[1]).abs().max() > 0.1


class Studio:
    """A real model over the stand-in, two encoders and low-rank updates, and three samples to draw."""

    def __init__(self) -> None:
        config = model_config(low_rank=1)
        made = backbone(config)
        self.scene, self.made = Scene(made), made
        self.adapters = adapters_for(made, config, coarse=True)
        make_heard(self.adapters)
        self.model = AudioConditionedTransformer(made, self.adapters)
        self.first = torch.rand(3, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.features = self.scene.sounds(self.adapters.grids, 3)
        self.text, self.null = made.text.encode(["one", "two", "three"]), made.text.encode([""])

    def sample(self, chosen: tuple[int, ...], guidance: Guidance = NO_GUIDANCE, **settings: Any) -> torch.Tensor:
        index = list(chosen)
        features = {name: heard[index] for name, heard in self.features.items()}
        windows = self.scene.windows(self.adapters, features)
        return sample_latents(
            self.model,
            self.made,
            self.first[index],
            TextEmbedding(self.text.embeddings[index], self.text.mask[index]),
            self.null,
            self.adapters.context(features, windows, torch.ones(len(index))),
            num_latent_frames=WINDOW.num_frames,
            fps=float(WINDOW.fps),
            seeds=[40 + each for each in index],
            num_inference_steps=3,
            guidance=guidance,
            **settings,
        )


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio()


def test_a_sample_does_not_depend_on_its_batch(studio: Studio) -> None:
    guidance = Guidance(2.0, 2.0)
    together, shuffled = studio.sample((0, 1, 2), guidance), studio.sample((2, 0), guidance)
    # Equal up to the order of float32 sums, which matrix products choose by batch size.
    torch.testing.assert_close(shuffled, together[[2, 0]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(studio.sample((1,), guidance), together[[1]], atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize(("audio", "text"), list(product((0.0, 1.0, 3.0), (1.0, 4.0, 0.0))))
def test_batched_guidance_is_sequential_guidance(studio: Studio, audio: float, text: float) -> None:
    plain = studio.sample((0, 1, 2), Guidance(audio, text))
    batched = studio.sample((0, 1, 2), Guidance(audio, text, batched=True))
    if (audio, text) == (1.0, 1.0):
        assert torch.equal(batched, plain)
    # Equal up to the order of float32 sums, which matrix products choose by batch size; scales multiply that by up to
    # seven, and three steps add it up.
    torch.testing.assert_close(batched, plain, atol=1e-4, rtol=1e-4)
    if (audio, text) != (1.0, 1.0):
        assert (plain - studio.sample((0, 1, 2))).abs().max() > 1e-2


@pytest.mark.parametrize("guidance", [NO_GUIDANCE, Guidance(3.0, 2.0), Guidance(0.0)], ids=str)
def test_keys_and_values_computed_once_change_no_bit(studio: Studio, guidance: Guidance) -> None:
    found = studio.sample((0, 1, 2), guidance, cache_audio=True)
    assert torch.equal(found, studio.sample((0, 1, 2), guidance, cache_audio=False))


def test_keys_and_values_computed_once_for_a_batched_pass_are_the_same(studio: Studio) -> None:
    guidance = Guidance(3.0, 2.0, batched=True)
    found = studio.sample((0, 1, 2), guidance, cache_audio=True)
    # Here the cache is of the batch, and without it keys are computed of the batch three times over: other sums.
    torch.testing.assert_close(found, studio.sample((0, 1, 2), guidance, cache_audio=False), atol=1e-4, rtol=1e-4)


def test_keys_and_values_are_computed_once_a_block(studio: Studio) -> None:
    calls: list[str] = []
    handles = [
        attention.get_submodule("to_kv").register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, attention in studio.adapters.attentions.items()
    ]
    studio.sample((0, 1), Guidance(3.0, 2.0))
    assert calls == ["0", "1"]
    calls.clear()
    studio.sample((0, 1), Guidance(3.0, 2.0), cache_audio=False)
    # Three steps of two passes that hear: with and without the caption.
    assert calls == ["0", "1"] * 6
    for handle in handles:
        handle.remove()


def test_sampling_records_no_gradients(studio: Studio) -> None:
    assert not studio.sample((0,)).requires_grad
    assert torch.is_grad_enabled()
    assert studio.made.caller is None

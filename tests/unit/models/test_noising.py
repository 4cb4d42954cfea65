"""The forward process of each kind of prediction, as diffusers' schedulers have it."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from soundstage.models.backbones.cogvideox import CogVideoXBackbone
from soundstage.models.backbones.ltx import LtxBackbone
from soundstage.models.backbones.wan import WanBackbone
from soundstage.models.noising import CleanResidual, DiffusionVelocity, FlowVelocity, Noising, noising_of

RELEASES = WanBackbone.releases | LtxBackbone.releases | CogVideoXBackbone.releases
DDIM: dict[str, Any] = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}


def latents(seed: int = 0, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean latents, noise and the clean first frame, in float64."""
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, batch, 2, 3, 4, 4, generator=generator, dtype=torch.float64)
    return clean, noise, clean[:, :, :1]


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_flow_adds_noise_as_the_euler_scheduler_does(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    clean, noise, _ = (part.float() for part in latents())
    flow = FlowVelocity()
    for index in (0, 130, 777):
        sigma, timestep = scheduler.sigmas[index], scheduler.timesteps[index]
        wanted = scheduler.scale_noise(clean, timestep[None], noise)
        levels = sigma.expand(3)
        torch.testing.assert_close(flow.noisy(clean, noise, levels), wanted, atol=0, rtol=0)
        # What the network is told of a level is what the scheduler has for it; sigma x 1000 may round once.
        torch.testing.assert_close(flow.timestep(levels), timestep.expand(3), atol=0, rtol=1.2e-7)


@pytest.mark.parametrize("index", [0, 7, 19])
def test_one_euler_step_with_the_perfect_prediction_is_exact(index: int) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
    scheduler.set_timesteps(20)
    clean, noise, first = (part.float() for part in latents())
    flow, sigma = FlowVelocity(), scheduler.sigmas[index].expand(3)
    noisy = flow.noisy(clean, noise, sigma)
    output = flow.for_scheduler(flow.target(clean, noise, sigma, first), noisy, sigma.view(-1, 1, 1, 1, 1), first)
    stepped = scheduler.step(output, scheduler.timesteps[index], noisy, return_dict=False)[0]
    # To the next level of the same noise; from the last level that is the clean latents.
    wanted = flow.noisy(clean, noise, scheduler.sigmas[index + 1].expand(3))
    # A few roundings of 6e-8 on values of up to five.
    torch.testing.assert_close(stepped, wanted, atol=2e-6, rtol=0)
    if index == 19:
        torch.testing.assert_close(stepped, clean, atol=2e-6, rtol=0)


def test_levels_belong_to_their_samples() -> None:
    clean, noise, first = latents()
    sigma = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    noisy = FlowVelocity().noisy(clean, noise, sigma)
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[2], noise[2])
    torch.testing.assert_close(noisy[1], 0.6 * clean[1] + 0.4 * noise[1], atol=1e-15, rtol=0)
    # A quarter of a level further, the flow has moved by a quarter of the velocity.
    moved = FlowVelocity().noisy(clean, noise, sigma + 0.25) - noisy
    torch.testing.assert_close(moved / 0.25, FlowVelocity().target(clean, noise, sigma, first), atol=1e-14, rtol=0)


def test_a_clean_residual_stands_for_the_velocity() -> None:
    clean, noise, first = latents()
    kind, sigma = CleanResidual(), torch.tensor([0.001, 0.4, 1.0], dtype=torch.float64)
    noisy = kind.noisy(clean, noise, sigma)
    output = kind.target(clean, noise, sigma, first)
    assert not output[:, :, 0].any()
    assert torch.equal(output, clean - first)
    found = kind.for_scheduler(output, noisy, sigma.view(-1, 1, 1, 1, 1), first)
    # A rounding of 1e-16 on values of order one, divided by the level.
    torch.testing.assert_close(found, noise - clean, atol=1e-12, rtol=0)
    assert torch.equal(kind.timestep(sigma), FlowVelocity().timestep(sigma))


@pytest.mark.parametrize("snr_shift_scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_diffusion_is_the_cogvideox_schedulers(kind: str, snr_shift_scale: float) -> None:
    settings = {name: value for name, value in DDIM.items() if kind.endswith("DDIMScheduler") or name != "clip_sample"}
    scheduler = getattr(diffusers, kind)(**settings, snr_shift_scale=snr_shift_scale)
    diffusion = noising_of(scheduler)
    assert isinstance(diffusion, DiffusionVelocity)
    clean, noise, first = (part.float() for part in latents())
    sigma = torch.tensor([0.0, 0.3137, 0.9999])
    timestep = diffusion.timestep(sigma)
    assert timestep.tolist() == [0, 313, 999]
    # The schedulers keep alphas in float64 until they are used, we in float32: one rounding of 6e-8, relative to at
    # least 1e-3 where the square root is taken of 1 - alpha.
    torch.testing.assert_close(
        diffusion.noisy(clean, noise, sigma), scheduler.add_noise(clean, noise, timestep), atol=5e-6, rtol=0
    )
    torch.testing.assert_close(
        diffusion.target(clean, noise, sigma, first), scheduler.get_velocity(clean, noise, timestep), atol=5e-6, rtol=0
    )
    # Zero terminal signal-to-noise: the last level is noise alone.
    assert torch.equal(diffusion.noisy(clean, noise, sigma)[2], noise[2])


@pytest.mark.parametrize("index", [0, 5, 9])
def test_one_ddim_step_with_the_perfect_prediction_is_exact(index: int) -> None:
    scheduler = diffusers.CogVideoXDDIMScheduler(**DDIM, snr_shift_scale=3.0)
    scheduler.set_timesteps(10)
    diffusion = noising_of(scheduler)
    clean, noise, first = (part.float() for part in latents())
    timestep = scheduler.timesteps[index]
    sigma = (timestep / 1000).expand(3)
    assert torch.equal(diffusion.timestep(sigma), timestep.expand(3))
    noisy = diffusion.noisy(clean, noise, sigma)
    output = diffusion.for_scheduler(diffusion.target(clean, noise, sigma, first), noisy, sigma, first)
    stepped = scheduler.step(output, timestep, noisy, return_dict=False)[0]
    wanted = clean
    if index < 9:
        wanted = diffusion.noisy(clean, noise, (scheduler.timesteps[index + 1] / 1000).expand(3))
    torch.testing.assert_close(stepped, wanted, atol=1e-5, rtol=0)


def test_every_timestep_survives_its_level() -> None:
    # What sampling makes of a scheduler's timestep must lead back to it, though t / 1000 is no float32.
    diffusion = noising_of(diffusers.CogVideoXDDIMScheduler(**DDIM))
    timesteps = torch.arange(1000)
    assert torch.equal(diffusion.timestep(timesteps / 1000), timesteps)
    # Levels of training, 0..1 with both ends, fall on all of them and on no other.
    levels = torch.linspace(0, 1, 100_001)
    assert torch.equal(diffusion.timestep(levels).unique(), timesteps)


@pytest.mark.parametrize("name", RELEASES)
def test_every_release_has_its_kind(name: str) -> None:
    settings = dict(RELEASES[name].scheduler)
    scheduler = getattr(diffusers, settings.pop("_class_name")).from_config(settings)
    wanted: type[Noising] = DiffusionVelocity if name.startswith("cogvideox") else FlowVelocity
    assert type(noising_of(scheduler)) is wanted
    assert noising_of(scheduler).name == ("v_prediction" if name.startswith("cogvideox") else "velocity")


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_another_kind_of_prediction_is_refused(prediction: str) -> None:
    scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type=prediction)
    message = f"scheduler CogVideoXDDIMScheduler predicts '{prediction}'; known are flow matching and v_prediction"
    with pytest.raises(ValueError, match=message):
        noising_of(scheduler)

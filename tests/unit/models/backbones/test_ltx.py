"""LTX-Video against diffusers' own pipelines, of both generations."""

from __future__ import annotations

import re

import diffusers
import pytest
import torch

from soundstage.config.tree import BackboneConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import pretrained_backbone

from .reference import CAPTIONS, CLOSE, SEEDS, STEPS, first_latents, image, noise, ours, theirs
from .tiny import TEXT_DIM, Shelf


def _packed(latents: torch.Tensor) -> torch.Tensor:
    return latents.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("name", ["ltx-0.9.0", "ltx-0.9.1"])
def test_sampling_is_that_of_the_image_to_video_pipeline(shelf: Shelf, name: str, scale: float) -> None:
    saved = shelf.get(name)
    made, member = saved.load(), saved.member
    first = first_latents(made, member, 2)
    drawn = noise(made, first, 3, SEEDS)
    start = torch.cat([first, drawn[:, :, 1:]], dim=2)
    wanted = theirs(
        saved,
        "LTXImageToVideoPipeline",
        prompt=CAPTIONS,
        guidance_scale=scale,
        frame_rate=member.fps,
        latents=_packed(start),
    )
    found = ours(made, member, scale)
    torch.testing.assert_close(_packed(found), wanted, **CLOSE)
    assert (found[:, :, 1:] - drawn[:, :, 1:]).abs().max() > 0.5


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_sampling_from_095_on_is_that_of_the_condition_pipeline(shelf: Shelf, scale: float) -> None:
    saved = shelf.get("ltx-0.9.5")
    made, member = saved.load(), saved.member
    wanted = theirs(
        saved,
        "LTXConditionPipeline",
        image=image(member),
        prompt=CAPTIONS[:1],
        guidance_scale=scale,
        frame_rate=member.fps,
        image_cond_noise_scale=0.0,
        generator=torch.Generator().manual_seed(SEEDS[0]),  # draws the noise first, in the shape in which we draw it
    )
    torch.testing.assert_close(ours(made, member, scale, batch=1), wanted, **CLOSE)


def test_the_picture_is_encoded_as_the_pipeline_encodes_it(shelf: Shelf) -> None:
    saved = shelf.get("ltx-0.9.0")
    made, member = saved.load(), saved.member
    pipeline = diffusers.LTXImageToVideoPipeline(**saved.pipeline.components)
    pixels = pipeline.video_processor.preprocess(image(member), height=member.height, width=member.width)
    latents, mask = pipeline.prepare_latents(
        pixels, 1, 8, member.height, member.width, member.num_frames, torch.float32, torch.device("cpu")
    )
    tokens = int(mask.sum())
    torch.testing.assert_close(latents[:, :tokens], _packed(first_latents(made, member, 1)), atol=1e-5, rtol=0)


def test_positions_tell_the_frame_rate(shelf: Shelf) -> None:
    saved = shelf.get("ltx-0.9.5")
    made = saved.load()
    first = first_latents(made, saved.member, 1)
    noisy, text = noise(made, first, 3, SEEDS[:1]), made.text.encode(["rain"])
    slow, fast = (
        made.predict(
            lambda **a: made.transformer(**a, return_dict=False)[0], noisy, first, torch.tensor([500.0]), text, fps
        )
        for fps in (8, 25)
    )
    assert (slow - fast).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["ltx-0.9.0", "ltx-0.9.5"])
def test_noise_levels_are_the_pipelines(shelf: Shelf, name: str) -> None:
    saved = shelf.get(name)
    made, theirs_too = saved.load(), saved.pipeline.scheduler
    scheduler = made.scheduler()
    made.set_timesteps(scheduler, STEPS, 2000)
    assert scheduler.timesteps[0] == 1000
    if name == "ltx-0.9.0":
        assert scheduler.sigmas[-2] == pytest.approx(theirs_too.config.shift_terminal, abs=1e-6)
    else:  # 1 - 0.025 i / (n / 2) in the first half
        assert scheduler.sigmas[1] == pytest.approx(1 - 0.0125, abs=1e-6)


def test_patches_of_several_latent_pixels_are_refused(shelf: Shelf, tmp_path) -> None:
    saved = shelf.get("ltx-0.9.0")
    for part in ("vae", "scheduler"):
        (tmp_path / part).symlink_to(saved.folder / part)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32, "num_layers": 1}
    diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=2, caption_channels=TEXT_DIM, **sizes
    ).save_pretrained(tmp_path / "transformer")
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: patches of 1 x 2 x 2 latent pixels")):
        pretrained_backbone(BackboneConfig(family="ltx", pretrained=str(tmp_path)))

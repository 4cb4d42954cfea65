"""CogVideoX against diffusers' own pipelines, with either of its schedulers."""

from __future__ import annotations

import re
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers import scheduling_dpm_cogvideox

from soundstage.config.tree import BackboneConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import pretrained_backbone

from .reference import CAPTIONS, CLOSE, SEEDS, first_latents, image, noise, ours, theirs
from .tiny import TEXT_DIM, Shelf

NUM_LATENT_FRAMES = 3


@pytest.fixture(autouse=True)
def _noise_of_one_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DPM solver draws noise in the layout it is given: theirs is frames first, ours channels first."""
    generator = torch.Generator()

    def drawn(shape: torch.Size, **_: Any) -> torch.Tensor:
        batch, second, third, height, width = shape
        frames_first = second == NUM_LATENT_FRAMES
        channels = third if frames_first else second
        generator.manual_seed(channels)
        made = torch.randn(batch, channels, NUM_LATENT_FRAMES, height, width, generator=generator)
        return made.transpose(1, 2) if frames_first else made

    monkeypatch.setattr(scheduling_dpm_cogvideox, "randn_tensor", drawn)


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("name", ["cogvideox-5b-i2v", "cogvideox-5b-i2v-dpm"])
def test_sampling_is_that_of_the_image_to_video_pipeline(shelf: Shelf, name: str, scale: float) -> None:
    saved = shelf.get(name)
    made, member = saved.load(), saved.member
    drawn = noise(made, first_latents(made, member, 1), NUM_LATENT_FRAMES, SEEDS[:1])
    wanted = theirs(
        saved,
        "CogVideoXImageToVideoPipeline",
        image=image(member),
        prompt=CAPTIONS[:1],
        guidance_scale=scale,
        latents=drawn.transpose(1, 2),
    )
    found = ours(made, member, scale, batch=1)
    torch.testing.assert_close(found, wanted.transpose(1, 2), **CLOSE)
    assert (found - drawn).abs().max() > 0.5


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b", "cogvideox-5b-dpm"])
def test_a_clean_first_latent_is_put_into_the_text_pipeline(shelf: Shelf, name: str, scale: float) -> None:
    # The pipeline lets a caller change latents between its steps: there the first one is made clean again.
    saved = shelf.get(name)
    made, member = saved.load(), saved.member
    first = first_latents(made, member, 2)
    drawn = noise(made, first, NUM_LATENT_FRAMES, SEEDS)
    start = torch.cat([first, drawn[:, :, 1:]], dim=2).transpose(1, 2)

    def clean_again(
        _pipeline: Any, _step: int, _timestep: Any, seen: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {"latents": torch.cat([start[:, :1], seen["latents"][:, 1:]], dim=1)}

    wanted = theirs(
        saved,
        "CogVideoXPipeline",
        prompt=CAPTIONS,
        guidance_scale=scale,
        latents=start,
        callback_on_step_end=clean_again,
    )
    found = ours(made, member, scale)
    torch.testing.assert_close(found, wanted.transpose(1, 2), **CLOSE)
    assert (found[:, :, 1:] - drawn[:, :, 1:]).abs().max() > 0.5


def test_the_picture_goes_in_as_channels_where_it_was_trained_to(shelf: Shelf) -> None:
    ways = {name: shelf.get(name).load() for name in ("cogvideox-2b", "cogvideox-5b", "cogvideox-5b-i2v")}
    assert {name: (made.first_frame, made.first_frame_native) for name, made in ways.items()} == {
        "cogvideox-2b": ("clean_latent", False),
        "cogvideox-5b": ("clean_latent", False),
        "cogvideox-5b-i2v": ("channels", True),
    }


def test_learned_positions_hold_for_one_window_only(shelf: Shelf) -> None:
    made = shelf.get("cogvideox-5b-i2v").load()
    assert made.check_window(9, 32, 48) == NUM_LATENT_FRAMES
    with pytest.raises(ConfigError, match=re.escape("has learned its positions at 32 x 48; set window.size=32")):
        made.check_window(9, 48, 32)
    with pytest.raises(
        ConfigError, match=re.escape("for 9 frames, at other lengths they would be lost; set window.num")
    ):
        made.check_window(13, 32, 48)


def test_generation_15_is_refused(shelf: Shelf, tmp_path) -> None:
    saved = shelf.get("cogvideox-5b")
    for part in ("vae", "scheduler"):
        (tmp_path / part).symlink_to(saved.folder / part)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 16, "num_layers": 1}
    diffusers.CogVideoXTransformer3DModel(
        in_channels=4,
        out_channels=4,
        text_embed_dim=TEXT_DIM,
        sample_width=6,
        sample_height=4,
        sample_frames=9,
        patch_size_t=2,
        patch_bias=False,
        use_rotary_positional_embeddings=True,
        **sizes,
    ).save_pretrained(tmp_path / "transformer")
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: patches of 2 latent frames, as in CogVideoX 1.5")):
        pretrained_backbone(BackboneConfig(family="cogvideox", pretrained=str(tmp_path)))


def test_the_codec_of_generation_15_is_refused(shelf: Shelf) -> None:
    saved = shelf.get("cogvideox-5b-i2v")
    made = saved.load()
    settings = {k: v for k, v in saved.pipeline.vae.config.items() if not k.startswith("_")}
    with pytest.raises(ConfigError, match=re.escape("invert_scale_latents, as in CogVideoX 1.5")):
        made.make_codec(diffusers.AutoencoderKLCogVideoX(**settings | {"invert_scale_latents": True}), made.codec_shape)

"""Wan against diffusers' own pipeline for a given first frame, and members that are not supported."""

from __future__ import annotations

import re

import diffusers
import pytest
import torch

from soundstage.config.tree import BackboneConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import pretrained_backbone

from .reference import CAPTIONS, CLOSE, SEEDS, first_latents, image, noise, ours, theirs
from .tiny import TEXT_DIM, Shelf


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("name", ["wan2.2-ti2v", "wan2.1-t2v"])
def test_sampling_is_that_of_the_image_to_video_pipeline(shelf: Shelf, name: str, scale: float) -> None:
    # Wan 2.1's text-only model is run in the way of Wan 2.2's, which the pipeline does for any transformer.
    saved = shelf.get(name)
    made, member = saved.load(), saved.member
    drawn = noise(made, first_latents(made, member, 2), 3, SEEDS)
    wanted = theirs(
        saved,
        "WanImageToVideoPipeline",
        init={"expand_timesteps": True},
        image=image(member),
        prompt=CAPTIONS,
        guidance_scale=scale,
        latents=drawn,
    )
    found = ours(made, member, scale)
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert (found[:, :, 1:] - drawn[:, :, 1:]).abs().max() > 0.5
    assert torch.equal(found[:, :, :1], first_latents(made, member, 2))


def test_text_guidance_and_first_frame_matter(shelf: Shelf) -> None:
    saved = shelf.get("wan2.2-ti2v")
    made = saved.load()
    plain = ours(made, saved.member, 1.0)
    assert (ours(made, saved.member, 5.0) - plain).abs().max() > 1e-2
    assert (plain[0] - plain[1]).abs().max() > 1e-2


def test_only_wan_22_was_trained_for_a_clean_first_latent(shelf: Shelf) -> None:
    members = {name: shelf.get(name).load() for name in ("wan2.1-t2v", "wan2.2-ti2v")}
    assert {made.first_frame for made in members.values()} == {"clean_latent"}
    assert not members["wan2.1-t2v"].first_frame_native
    assert members["wan2.2-ti2v"].first_frame_native


def test_wan_21_image_to_video_is_refused(shelf: Shelf, tmp_path) -> None:
    saved = shelf.get("wan2.1-t2v")
    (tmp_path / "vae").symlink_to(saved.folder / "vae")
    (tmp_path / "scheduler").symlink_to(saved.folder / "scheduler")
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 1, "freq_dim": 32}
    diffusers.WanTransformer3DModel(
        in_channels=36, image_dim=20, added_kv_proj_dim=32, text_dim=TEXT_DIM, rope_max_seq_len=32, **sizes
    ).save_pretrained(tmp_path / "transformer")
    message = f"{tmp_path}: its transformer takes 36 channels over a codec of 16, as Wan's image-to-video checkpoints"
    with pytest.raises(ConfigError, match=re.escape(message)):
        pretrained_backbone(BackboneConfig(family="wan", pretrained=str(tmp_path)))


def test_a_second_transformer_is_refused(shelf: Shelf, tmp_path) -> None:
    # Wan 2.2 A14B: the same classes as Wan 2.1's text-only model, and a second transformer for low noise.
    parts = shelf.get("wan2.1-t2v").pipeline.components | {"transformer_2": None}
    transformer = parts["transformer"]
    diffusers.WanPipeline(**parts | {"transformer_2": transformer}, boundary_ratio=0.875).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="lists transformer_2, a second transformer"):
        pretrained_backbone(BackboneConfig(family="wan", pretrained=str(tmp_path)))

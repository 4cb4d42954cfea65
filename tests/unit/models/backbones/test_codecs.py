"""Codecs of the checkpoints: normalised as their pipelines do, and which frames each latent stands for."""

from __future__ import annotations

import re
from typing import Any

import diffusers
import pytest
import torch

from soundstage.errors import ConfigError
from soundstage.models.backbones.base import CodecShape
from soundstage.models.backbones.codecs import PixelCodec, frames_of, signed_pixels

from .tiny import MEMBERS, Shelf, video

KINDS = ["wan2.1-t2v", "wan2.2-ti2v", "ltx-0.9.0", "ltx-0.9.1", "ltx-0.9.5", "cogvideox-2b", "cogvideox-5b"]
CAUSAL = [name for name in KINDS if not name.startswith("cogvideox")]


def _normalised(vae: Any, plain: torch.Tensor) -> torch.Tensor:
    """By the formulas of the pipelines."""
    if isinstance(vae, diffusers.AutoencoderKLWan):
        mean, std = (
            torch.tensor(part).view(1, -1, 1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std)
        )
        return (plain - mean) / std
    if isinstance(vae, diffusers.AutoencoderKLLTXVideo):
        normalise = diffusers.LTXImageToVideoPipeline._normalize_latents
        found: torch.Tensor = normalise(plain, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        return found
    return plain * vae.config.scaling_factor


@pytest.mark.parametrize("name", KINDS)
def test_latents_are_normalised_as_the_pipeline_does(shelf: Shelf, name: str) -> None:
    saved = shelf.get(name)
    codec, vae, frames = saved.load().codec, saved.pipeline.vae, video(saved.member)
    with torch.no_grad():
        plain = vae.encode(signed_pixels(frames)).latent_dist.mode()
        # 0.05 is the level at which the pipeline's own example lets denoising decoders decode.
        told = [torch.tensor([0.05])] if vae.config.get("timestep_conditioning") else []
        pixels = vae.decode(plain, *told, return_dict=False)[0]
        if isinstance(vae, diffusers.AutoencoderKLCogVideoX):  # its pipeline encodes the given frame by itself
            plain[:, :, :1] = vae.encode(signed_pixels(frames[:, :1])).latent_dist.mode()
            pixels = vae.decode(plain, return_dict=False)[0]
    found = codec.encode(frames)
    # One multiplication by a reciprocal or one division: a few units in the last place.
    torch.testing.assert_close(found, _normalised(vae, plain), atol=1e-6, rtol=1e-5)
    # The way back undoes it up to rounding, which can tip a pixel over to the next of 256 levels, no further.
    difference = codec.decode(found).int() - frames_of(pixels).int()
    assert difference.abs().max() <= 1
    assert (difference != 0).float().mean() < 1e-3


@pytest.mark.parametrize("name", KINDS)
def test_shapes_follow_the_strides(shelf: Shelf, name: str) -> None:
    saved = shelf.get(name)
    made, member = saved.load(), saved.member
    shape = made.codec_shape
    latents = made.codec.encode(video(member))
    wanted = (1, shape.channels, shape.latent_frames(member.num_frames))
    assert latents.shape == (*wanted, member.height // shape.spatial_stride, member.width // shape.spatial_stride)
    assert made.codec.decode(latents).shape == video(member).shape
    assert (made.codec.channels, made.codec.temporal_stride, made.codec.spatial_stride) == (
        shape.channels,
        shape.temporal_stride,
        shape.spatial_stride,
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_first_frame_alone_is_latent_0(shelf: Shelf, name: str) -> None:
    # The same sums, but over tensors of other sizes, for which convolutions may order their float32 terms otherwise.
    saved = shelf.get(name)
    codec, frames = saved.load().codec, video(saved.member)
    torch.testing.assert_close(codec.encode(frames[:, :1]), codec.encode(frames)[:, :, :1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_latents_own_frames_change_it_and_none_before(shelf: Shelf, name: str) -> None:
    saved = shelf.get(name)
    made, frames = saved.load(), video(saved.member)
    stride = made.codec_shape.temporal_stride
    before = made.codec.encode(frames)
    for index in range(before.shape[2]):
        first = max(0, stride * index - stride + 1)
        changed = frames.clone()
        changed[:, first : stride * index + 1] = 255 - changed[:, first : stride * index + 1]
        moved = (made.codec.encode(changed) - before).abs().amax(dim=(0, 1, 3, 4))
        assert not moved[:index].any(), f"latents before {index} hear of its frames"
        assert moved[index] > 1e-2


@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b"])
def test_cogvideox_looks_ahead_through_its_norms_only(shelf: Shelf, name: str) -> None:
    # Its convolutions are causal, but group norms take their statistics over a chunk of 8 frames (the first has 9):
    # a later frame of the chunk shifts and scales earlier latents a little, one of a later chunk not at all.
    saved = shelf.get(name)
    codec, member = saved.load().codec, saved.member
    frames = torch.cat([video(member), video(member, seed=1)[:, 1:]], dim=1)
    before = codec.encode(frames)
    assert before.shape[2] == 5
    later_chunk, same_chunk = frames.clone(), frames.clone()
    later_chunk[:, 9:] = 255 - later_chunk[:, 9:]
    same_chunk[:, 5:9] = 255 - same_chunk[:, 5:9]
    moved = (codec.encode(later_chunk) - before).abs().amax(dim=(0, 1, 3, 4))
    assert not moved[:3].any()
    assert moved[3:].min() > 1e-2
    moved = (codec.encode(same_chunk) - before).abs().mean(dim=(0, 1, 3, 4))
    assert 0 < moved[1] < 0.25 * moved[2]
    assert moved[0] == 0, "the first frame is encoded by itself"


@pytest.mark.parametrize("name", MEMBERS)
def test_a_length_without_whole_latents_names_the_nearest(shelf: Shelf, name: str) -> None:
    shape = shelf.get(name).load().codec_shape
    below, above = (9, 17) if shape.temporal_stride == 8 else (9, 13)
    with pytest.raises(ConfigError, match=re.escape(f"window.num_frames={below + 1}: a codec that packs")) as caught:
        shape.latent_frames(below + 1)
    assert str(caught.value).endswith(f"take {below} or {above}")
    assert (shape.latent_frames(below), shape.latent_frames(above)) == (
        (below - 1) // shape.temporal_stride + 1,
        (above - 1) // shape.temporal_stride + 1,
    )


def test_every_frame_is_a_latent_without_temporal_stride() -> None:
    assert [CodecShape(3, 1, 1).latent_frames(count) for count in (1, 6, 7)] == [1, 6, 7]


def test_every_pixel_comes_back_from_half_precision() -> None:
    # Shards hold float16 latents: all 256 levels must survive them where latents are pixels.
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(1, 2, 16, 16, 3)
    latents = PixelCodec().encode(levels)
    assert (latents.min(), latents.max()) == (-1, 1)
    assert torch.equal(PixelCodec().decode(latents.half()), levels)

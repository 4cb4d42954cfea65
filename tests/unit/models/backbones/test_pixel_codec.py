"""The codec of the stand-ins: nothing lost, time covered as a causal VAE covers it, neighbours that are frames."""

from __future__ import annotations

import pytest
import torch

from soundstage.models.backbones.codecs import PixelCodec
from soundstage.models.windows import frame_spans

STRIDES = (1, 2, 4)


def clips(frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, frames, 8, 6, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("latents", [1, 2, 4])
@pytest.mark.parametrize("stride", STRIDES)
def test_what_goes_in_comes_out(stride: int, latents: int) -> None:
    codec, frames = PixelCodec(stride), clips(stride * (latents - 1) + 1)
    encoded = codec.encode(frames)
    assert encoded.shape == (2, 3 * stride, latents, 8, 6)
    assert codec.channels == 3 * stride
    assert torch.equal(codec.decode(encoded), frames)
    assert torch.equal(codec.encode(codec.decode(encoded)), encoded)


@pytest.mark.parametrize("stride", STRIDES)
def test_every_pixel_survives_its_latents_in_half_precision(stride: int) -> None:
    # Shards hold float16 latents: all 256 levels must come back.
    codec = PixelCodec(stride)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(1, stride + 1, 16, 16, 3)
    latents = codec.encode(levels)
    assert latents.min() == -1
    assert latents.max() == 1
    assert torch.equal(codec.decode(latents.half()), levels)
    assert torch.equal(codec.decode(latents * 5), codec.decode((latents * 5).clamp(-1, 1)))


@pytest.mark.parametrize("stride", STRIDES)
def test_a_latent_holds_the_frames_of_its_span(stride: int) -> None:
    # Frame t is grey of level t: what a latent holds, in its channels' order, is a list of frame numbers.
    count = 3 * stride + 1
    numbers = torch.arange(count, dtype=torch.uint8)
    latents = PixelCodec(stride).encode(numbers.view(1, count, 1, 1, 1).expand(1, count, 2, 2, 3))
    held = ((latents[0, :, :, 0, 0] + 1) * 127.5).round().int().view(stride, 3, 4)
    assert (held == held[:, :1]).all()
    spans = (frame_spans(4, fps=1.0, temporal_stride=stride) + torch.tensor([0.5, -0.5])).round().int()
    assert held[:, 0, 0].tolist() == [0] * stride
    for latent, (first, last) in enumerate(spans.tolist()):
        if latent:
            assert held[:, 0, latent].tolist() == list(range(first, last + 1))


def test_a_later_frame_leaves_earlier_latents_alone() -> None:
    frames, codec = clips(13), PixelCodec(4)
    changed = frames.clone()
    changed[:, 5] = 255 - changed[:, 5]
    differs = (codec.encode(frames) != codec.encode(changed)).flatten(3).any(dim=3)
    assert differs.any(dim=1).tolist() == [[False, False, True, False]] * 2
    assert differs[0, :, 2].tolist() == [True] * 3 + [False] * 9


@pytest.mark.parametrize(("stride", "frames"), [(4, 12), (4, 4), (2, 6), (4, 0), (1, 0)])
def test_frames_that_fill_no_latent_are_refused(stride: int, frames: int) -> None:
    with pytest.raises(ValueError, match=rf"^{frames} frames are .* stride {stride}: expected {stride} \* k \+ 1$"):
        PixelCodec(stride).encode(clips(frames))


def test_latents_of_another_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="have 3 channels, expected 12: 3 colours of 4 frames"):
        PixelCodec(4).decode(PixelCodec(1).encode(clips(4)))


@pytest.mark.parametrize("stride", STRIDES)
def test_the_previous_of_a_pixel_is_that_pixel_a_frame_earlier(stride: int) -> None:
    codec, frames = PixelCodec(stride), clips(2 * stride + 1)
    earlier = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    previous = codec.previous(codec.encode(frames))
    wanted = codec.encode(earlier)
    assert torch.equal(codec.decode(previous), earlier)
    assert torch.equal(previous[:, :, 1:], wanted[:, :, 1:])
    assert torch.equal(previous[:, :, 0], codec.encode(frames)[:, :, 0])

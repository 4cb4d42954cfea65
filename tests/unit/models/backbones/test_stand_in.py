"""The stand-in on disk, its identity, and what its output means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soundstage.config.tree import BackboneConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.base import Prediction
from soundstage.models.backbones.codecs import PixelCodec
from soundstage.models.backbones.load import encode_captions, encoder_fingerprints, load_backbone, new_backbone
from soundstage.models.backbones.wan import StandInText, save_stand_in

from ..makers import backbone, model_config


def test_a_stand_in_comes_back_whole_and_frozen(tmp_path: Path) -> None:
    made = backbone()
    save_stand_in(made, tmp_path)
    loaded = load_backbone(tmp_path)
    wanted = made.transformer.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.transformer.state_dict().items())
    assert (loaded.fingerprint, loaded.prediction) == (made.fingerprint, made.prediction)
    assert not any(parameter.requires_grad for parameter in loaded.transformer.parameters())
    captions = ["a drum", "", "a \N{SNOWMAN}"]
    assert torch.equal(loaded.text.encode(captions), made.text.encode(captions))


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    save_stand_in(backbone(), tmp_path)
    path = next((tmp_path / "transformer").glob("*.safetensors"))
    tensors = load_file(path)
    tensors["proj_out.bias"][0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="the folder was altered"):
        load_backbone(tmp_path)


def test_a_folder_that_is_no_stand_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no stand-in backbone"):
        load_backbone(tmp_path)
    with pytest.raises(ConfigError, match=r"pretrained='Wan-AI/somewhere'"):
        new_backbone(BackboneConfig(pretrained="Wan-AI/somewhere"), 0)


def test_one_seed_one_backbone_whatever_came_before() -> None:
    torch.manual_seed(1)
    first = backbone()
    torch.manual_seed(2)
    assert backbone().fingerprint == first.fingerprint
    assert backbone(seed=9).fingerprint != first.fingerprint
    assert encoder_fingerprints(model_config()) == encoder_fingerprints(model_config())


@pytest.mark.parametrize("prediction", ["velocity", "clean_residual"])
def test_the_target_stands_for_the_velocity(prediction: Prediction) -> None:
    # A perfect network outputs the target; the velocity read from it must be noise - clean at every level.
    made = backbone()
    made.prediction = prediction
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, 4, 8, 8, generator=generator).double()
    first, sigma = clean[:, :, :1], torch.tensor([0.2, 0.9]).double().view(2, 1, 1, 1, 1)
    noisy = (1 - sigma) * clean + sigma * noise
    found = made.velocity(made.target(clean, noise, first), noisy, sigma, first)
    torch.testing.assert_close(found, noise - clean, atol=1e-12, rtol=0)


def test_the_first_frame_stands_beside_every_frame() -> None:
    noisy, first = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 3, 1, 8, 8)
    given = backbone().model_input(noisy, first)
    assert torch.equal(given[:, :3], noisy)
    assert all(torch.equal(given[:, 3:, frame], first[:, :, 0]) for frame in range(4))


def test_every_pixel_survives_its_latents_in_half_precision() -> None:
    # Shards hold float16 latents: all 256 levels must come back.
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(1, 2, 16, 16, 3)
    latents = PixelCodec().encode(levels)
    assert latents.min() == -1
    assert latents.max() == 1
    assert torch.equal(PixelCodec().decode(latents.half()), levels)
    assert torch.equal(PixelCodec().decode(latents * 5), PixelCodec().decode((latents * 5).clamp(-1, 1)))


def test_captions_are_told_apart_and_padded_with_zeros() -> None:
    text = StandInText.create(16)
    embedded = encode_captions(text, ["a red drum", "a red drums", ""])
    assert embedded.shape == (3, 48, 16)
    assert not torch.equal(embedded[0], embedded[1])
    assert not embedded[0, len("a red drum") + 1 :].any()
    assert embedded[0, : len("a red drum")].abs().sum(dim=1).min() > 0

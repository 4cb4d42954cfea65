"""The stand-in on disk, its identity, and what its output means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from soundstage.config.audio import AudioConfig
from soundstage.config.tree import BackboneConfig, ModelConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import encode_captions, encoder_fingerprints, load_backbone, new_backbone
from soundstage.models.backbones.stand_in import save_stand_in, stand_in_on_meta, stand_in_text
from soundstage.models.conditioned import parameter_count

from ..makers import Scene, backbone, model_config


def of(**settings: Any) -> ModelConfig:
    """The usual small model over a stand-in with other settings."""
    config = model_config()
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=settings)})


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("prediction", ["velocity", "clean_residual"])
def test_a_stand_in_comes_back_whole_and_frozen(tmp_path: Path, prediction: str, stride: int) -> None:
    made = backbone(of(prediction=prediction, temporal_stride=stride))
    save_stand_in(made, tmp_path)
    loaded = load_backbone(tmp_path)
    wanted = made.transformer.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.transformer.state_dict().items())
    assert loaded.transformer.state_dict().keys() == wanted.keys()
    assert (loaded.fingerprint, loaded.prediction, loaded.codec_shape) == (
        made.fingerprint,
        prediction,
        made.codec_shape,
    )
    assert not any(parameter.requires_grad for parameter in loaded.transformer.parameters())
    assert not loaded.transformer.training
    captions = ["a drum", "", "a \N{SNOWMAN}"]
    for found, asked in zip(encoded(loaded, captions), encoded(made, captions), strict=True):
        assert torch.equal(found, asked)
    asked = Scene(made).asked()
    assert torch.equal(loaded.predict(called(loaded), *asked), made.predict(called(made), *asked))
    about = json.loads((tmp_path / "backbone.json").read_text())
    assert (about["stand_in"], about["preconditioned"]) == (True, prediction == "clean_residual")


def encoded(made: Any, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    text = made.text.encode(captions)
    return text.embeddings, text.mask


def called(made: Any) -> Any:
    """The transformer as a family's `predict` calls it."""
    return lambda **arguments: made.transformer(**arguments, return_dict=False)[0]


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    save_stand_in(backbone(), tmp_path)
    path = next((tmp_path / "transformer").glob("*.safetensors"))
    tensors = load_file(path)
    tensors["proj_out.bias"][0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="the folder was altered"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("prediction", "clean_residual"), ("temporal_stride", 4)])
def test_another_meaning_of_the_same_weights_is_refused(tmp_path: Path, key: str, value: object) -> None:
    save_stand_in(backbone(), tmp_path)
    path = tmp_path / "backbone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
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
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert backbone().fingerprint == first.fingerprint
    assert backbone(seed=9).fingerprint != first.fingerprint
    config = model_config()
    assert encoder_fingerprints(config.backbone, config.audio) == encoder_fingerprints(config.backbone, config.audio)
    other = AudioConfig(sample_rate=22050, encoders=config.audio.encoders)
    assert encoder_fingerprints(config.backbone, other) != encoder_fingerprints(config.backbone, config.audio)
    # Making one draws nothing from the generator that others use.
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("prediction", ["velocity", "clean_residual"])
def test_the_target_stands_for_the_velocity(prediction: Literal["velocity", "clean_residual"]) -> None:
    # A perfect network outputs the target; the velocity read from it must be noise - clean at every level.
    noising = backbone(of(prediction=prediction)).noising
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, 4, 8, 8, generator=generator).double()
    first, sigma = clean[:, :, :1], torch.tensor([0.2, 0.9]).double()
    noisy = noising.noisy(clean, noise, sigma)
    levels = sigma.view(2, 1, 1, 1, 1)
    torch.testing.assert_close(noisy, (1 - levels) * clean + levels * noise, atol=1e-15, rtol=0)
    found = noising.for_scheduler(noising.target(clean, noise, sigma, first), noisy, levels, first)
    torch.testing.assert_close(found, noise - clean, atol=1e-12, rtol=0)


@pytest.mark.parametrize("stride", [1, 4])
def test_the_first_frame_stands_beside_every_frame(stride: int) -> None:
    made = backbone(of(temporal_stride=stride))
    channels = 3 * stride
    noisy, first, timestep, text, fps = Scene(made).asked()
    given: dict[str, torch.Tensor] = {}

    def transformer(**arguments: torch.Tensor) -> torch.Tensor:
        given.update(arguments)
        return called(made)(**arguments)  # type: ignore[no-any-return]

    assert made.predict(transformer, noisy, first, timestep, text, fps).shape == noisy.shape
    hidden = given["hidden_states"]
    assert torch.equal(hidden[:, :channels], noisy)
    assert all(torch.equal(hidden[:, channels:, frame], first[:, :, 0]) for frame in range(noisy.shape[2]))
    assert torch.equal(given["timestep"], timestep)
    # So the network answers for every frame, the first one too.
    assert made.with_first(noisy, first) is noisy
    assert made.learned(noisy) is noisy
    assert made.first_frame_native


def test_on_meta_it_has_the_same_shape() -> None:
    config = of(temporal_stride=4).backbone
    made, shape = new_backbone(config, 0), stand_in_on_meta(config)
    assert parameter_count(made.transformer) == parameter_count(shape.transformer)
    assert {p.device.type for p in shape.transformer.parameters()} == {"meta"}
    assert shape.codec_shape == made.codec_shape


@pytest.mark.parametrize("family", ["ltx", "cogvideox"])
def test_other_families_have_none(family: str) -> None:
    with pytest.raises(ValueError, match=f"family={family} has no stand-in to train"):
        BackboneConfig.model_validate({"family": family})


def test_captions_are_told_apart_and_padded_with_zeros() -> None:
    text = stand_in_text(16)
    found = encode_captions(text, ["a red drum", "a red drums", ""])
    embedded, mask = found.embeddings, found.mask
    assert embedded.shape == (3, 48, 16)
    assert not torch.equal(embedded[0], embedded[1])
    end = len("a red drum") + 1
    assert not embedded[0, end:].any()
    assert embedded[0, : len("a red drum")].abs().sum(dim=1).min() > 0
    assert mask[0].tolist() == [True] * end + [False] * (48 - end)

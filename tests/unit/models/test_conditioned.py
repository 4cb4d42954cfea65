"""A frozen backbone stays what it was; only adapters learn, and they are as few as promised."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from soundstage.config.tree import AdapterConfig
from soundstage.errors import ConfigError
from soundstage.models.adapter import AudioContext
from soundstage.models.conditioned import (
    AudioAdapters,
    AudioConditionedTransformer,
    check_budget,
    parameter_count,
    trainable_share,
)
from soundstage.models.windows import audio_windows, frame_spans

from .makers import backbone, make_heard, model_config

FRAMES, FEATURES = 6, 17


def adapters_for(config: AdapterConfig, hidden_dim: int = 32, blocks: int = 2) -> AudioAdapters:
    torch.manual_seed(3)
    return AudioAdapters(hidden_dim, blocks, FEATURES, config)


def heard(adapters: AudioAdapters, keep: tuple[float, ...] = (1.0, 1.0)) -> AudioContext:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(len(keep), 160, FEATURES, generator=generator)
    windows = audio_windows(frame_spans(FRAMES, 6.0), torch.arange(-30, 130) / 100, 0.25)
    return adapters.context(features, windows, torch.tensor(keep))


def video(seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 6, FRAMES, 16, 16, generator=generator)
    return latents, torch.tensor([900.0, 120.0]), torch.randn(2, 48, 16, generator=generator)


def test_untrained_adapters_change_no_bit() -> None:
    made = backbone()
    bare = copy.deepcopy(made.transformer)
    adapters = adapters_for(model_config().adapter)
    model = AudioConditionedTransformer(made.transformer, made.blocks, adapters)
    latents, at, text = video()
    wanted = bare(latents, at, text, return_dict=False)[0]
    assert torch.equal(model(latents, at, text, heard(adapters)), wanted)
    make_heard(adapters)
    assert not torch.allclose(model(latents, at, text, heard(adapters)), wanted, atol=1e-3)
    assert torch.equal(model(latents, at, text, None), wanted)


def test_keep_parts_the_samples_of_a_batch() -> None:
    made = backbone()
    adapters = adapters_for(model_config().adapter)
    make_heard(adapters)
    model = AudioConditionedTransformer(made.transformer, made.blocks, adapters)
    latents, at, text = video()
    alone = model(latents, at, text, None)
    mixed = model(latents, at, text, heard(adapters, (0.0, 1.0)))
    assert torch.equal(mixed[0], alone[0])
    assert not torch.allclose(mixed[1], alone[1], atol=1e-3)


def test_only_adapters_receive_gradients_and_all_of_them_do() -> None:
    made = backbone()
    adapters = adapters_for(model_config().adapter)
    model = AudioConditionedTransformer(made.transformer, made.blocks, adapters)
    latents, at, text = video()
    model(latents, at, text, heard(adapters)).square().mean().backward()
    moved = {name for name, p in adapters.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {f"attentions.{block}.to_out.{kind}" for block in (0, 1) for kind in ("weight", "bias")}

    make_heard(adapters)
    adapters.zero_grad()
    model(latents, at, text, heard(adapters)).square().mean().backward()
    still = [name for name, p in adapters.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert not still
    assert all(parameter.grad is None for parameter in made.transformer.parameters())


def test_the_share_is_what_a_hand_counts() -> None:
    config = AdapterConfig(inner_dim=2, heads=1, audio_dim=4)
    adapters = adapters_for(config, hidden_dim=32, blocks=2)
    projector = (17 * 4 + 4) + 12 * 4
    attention = (32 * 2 + 2) + (4 * 4 + 4) + (2 * 32 + 32)
    assert parameter_count(adapters) == projector + 2 * attention == 484
    assert trainable_share(adapters, torch.nn.Linear(99, 100)) == 484 / 10_000


@pytest.mark.parametrize(("every", "blocks", "expected"), [(1, 4, (0, 1, 2, 3)), (2, 4, (1, 3)), (3, 4, (2,))])
def test_adapters_follow_every_nth_block(every: int, blocks: int, expected: tuple[int, ...]) -> None:
    adapters = adapters_for(AdapterConfig(inner_dim=2, audio_dim=4, every=every), blocks=blocks)
    assert adapters.block_indices == expected
    assert sorted(adapters.attentions) == [str(index) for index in expected]


def test_too_many_parameters_are_refused() -> None:
    adapters = adapters_for(AdapterConfig(inner_dim=2, audio_dim=4))
    backbone_of_484 = torch.nn.Linear(121, 4, bias=False)
    assert check_budget(adapters, backbone_of_484, 1.0) == 1.0
    message = "adapters have 484 parameters, 100.00% of the backbone's 484; allowed are 1.90%"
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_budget(adapters, backbone_of_484, 0.019)

"""A frozen backbone stays what it was; only adapters learn, and they are as few as promised."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from soundstage.config.tree import AdapterConfig, ModelConfig
from soundstage.errors import ConfigError
from soundstage.models.conditioned import (
    AudioAdapters,
    AudioConditionedTransformer,
    check_budget,
    parameter_count,
    placed,
    trainable_share,
)

from .makers import Scene, adapters_for, backbone, make_heard, model_config


def build(config: ModelConfig | None = None, coarse: bool = False) -> tuple[Scene, AudioAdapters]:
    config = config or model_config()
    made = backbone(config)
    return Scene(made), adapters_for(made, config, coarse=coarse)


def test_untrained_adapters_change_no_bit() -> None:
    scene, adapters = build(coarse=True)
    bare = AudioConditionedTransformer(copy.deepcopy(scene.backbone), None)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    wanted = bare(*scene.asked())
    assert torch.equal(model(*scene.asked(), scene.heard(adapters)), wanted)
    make_heard(adapters)
    assert not torch.allclose(model(*scene.asked(), scene.heard(adapters)), wanted, atol=1e-3)
    assert torch.equal(model(*scene.asked(), None), wanted)


def test_every_encoder_is_heard() -> None:
    scene, adapters = build(coarse=True)
    make_heard(adapters)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    features = scene.sounds(adapters.grids)
    assert sorted(features) == ["mel", "patches"]
    windows = scene.windows(adapters, features)
    usual = model(*scene.asked(), adapters.context(features, windows, torch.ones(2)))
    for name in features:
        changed = features | {name: features[name] + 1}
        found = model(*scene.asked(), adapters.context(changed, windows, torch.ones(2)))
        assert not torch.allclose(found, usual, atol=1e-3)


def test_keep_parts_the_samples_of_a_batch() -> None:
    scene, adapters = build()
    make_heard(adapters)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    alone = model(*scene.asked(), None)
    mixed = model(*scene.asked(), scene.heard(adapters, (0.0, 1.0)))
    assert torch.equal(mixed[0], alone[0])
    assert not torch.allclose(mixed[1], alone[1], atol=1e-3)


def test_audio_computed_beforehand_changes_no_bit() -> None:
    scene, adapters = build(coarse=True)
    make_heard(adapters)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    audio = scene.heard(adapters)
    cached = adapters.cached(audio)
    assert cached.keys_values is not None
    assert sorted(cached.keys_values) == ["0", "1"]
    assert torch.equal(model(*scene.asked(), cached), model(*scene.asked(), audio))


def test_only_adapters_receive_gradients_and_all_of_them_do() -> None:
    scene, adapters = build(coarse=True)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    model(*scene.asked(), scene.heard(adapters)).square().mean().backward()
    moved = {name for name, p in adapters.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {f"attentions.{block}.to_out.{kind}" for block in (0, 1) for kind in ("weight", "bias")}

    make_heard(adapters)
    adapters.zero_grad()
    model(*scene.asked(), scene.heard(adapters)).square().mean().backward()
    still = [name for name, p in adapters.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert not still
    assert all(parameter.grad is None for parameter in scene.backbone.transformer.parameters())


def test_the_share_is_what_a_hand_counts() -> None:
    _, adapters = build(model_config(inner_dim=2, heads=1, audio_dim=4))
    projector = (17 * 4 + 4) + 12 * 4
    attention = (32 * 2 + 2) + (4 * 4 + 4) + (2 * 32 + 32)
    assert parameter_count(adapters) == projector + 2 * attention == 484
    assert trainable_share(adapters, torch.nn.Linear(99, 100)) == 484 / 10_000
    _, both = build(model_config(inner_dim=2, heads=1, audio_dim=4), coarse=True)
    assert parameter_count(both) == 484 + (6 * 4 + 4)


@pytest.mark.parametrize(("every", "blocks", "expected"), [(1, 4, (0, 1, 2, 3)), (2, 4, (1, 3)), (3, 4, (2,))])
def test_adapters_follow_every_nth_block(every: int, blocks: int, expected: tuple[int, ...]) -> None:
    _, adapters = build(model_config(blocks, every=every))
    assert adapters.block_indices == expected
    assert sorted(adapters.attentions) == [str(index) for index in expected]


@pytest.mark.parametrize(
    ("placement", "every", "blocks", "expected"),
    [
        ("first_half", 1, 6, (0, 1, 2)),
        ("second_half", 1, 6, (3, 4, 5)),
        ("first_half", 1, 5, (0, 1)),
        ("second_half", 1, 5, (2, 3, 4)),
        ("first_half", 2, 8, (1, 3)),
        ("second_half", 2, 8, (5, 7)),
        ("second_half", 1, 1, (0,)),
        ("all", 30, 30, (29,)),
    ],
)
def test_adapters_stand_in_their_half(placement: str, every: int, blocks: int, expected: tuple[int, ...]) -> None:
    config = AdapterConfig.model_validate({"placement": placement, "every": every})
    assert placed(blocks, config) == expected


@pytest.mark.parametrize(("placement", "every", "blocks"), [("first_half", 1, 1), ("all", 5, 4), ("second_half", 3, 4)])
def test_a_placement_without_any_block_is_refused(placement: str, every: int, blocks: int) -> None:
    config = AdapterConfig.model_validate({"placement": placement, "every": every})
    message = f"model.adapter.every={every} with placement={placement} leaves no block of {blocks} with an adapter"
    with pytest.raises(ConfigError, match=re.escape(message)):
        placed(blocks, config)


def test_halves_hear_only_from_their_blocks_on() -> None:
    config = model_config(blocks=4, placement="second_half")
    scene, adapters = build(config)
    make_heard(adapters)
    model = AudioConditionedTransformer(scene.backbone, adapters)
    seen: dict[int, list[torch.Tensor]] = {index: [] for index in range(4)}
    for index, block in enumerate(scene.backbone.blocks):
        block.register_forward_hook(lambda _module, _args, output, index=index: seen[index].append(output))
    model(*scene.asked(), None)
    model(*scene.asked(), scene.heard(adapters))
    assert [torch.equal(*seen[index]) for index in range(4)] == [True, True, False, False]


def test_too_many_parameters_are_refused() -> None:
    _, adapters = build(model_config(inner_dim=2, heads=1, audio_dim=4))
    backbone_of_484 = torch.nn.Linear(121, 4, bias=False)
    assert check_budget(adapters, backbone_of_484, 1.0) == 1.0
    message = "adapters have 484 parameters, 100.00% of the backbone's 484; allowed are 1.90%"
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_budget(adapters, backbone_of_484, 0.019)

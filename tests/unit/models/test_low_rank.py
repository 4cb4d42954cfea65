"""A low-rank update is what it says: nothing before training, after it the merged weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer, parameter_count, trainable_share
from soundstage.models.low_rank import LowRankUpdate

from .makers import Scene, adapters_for, backbone, make_heard, model_config

CONFIG = model_config(low_rank=2)


def build(trained: bool) -> tuple[Scene, AudioAdapters, AudioConditionedTransformer]:
    """A stand-in with attentions and updates; trained: all of them say something."""
    made = backbone(CONFIG)
    adapters = adapters_for(made, CONFIG)
    if trained:
        make_heard(adapters)
    return Scene(made), adapters, AudioConditionedTransformer(made, adapters)


def merged(scene: Scene, adapters: AudioAdapters) -> AudioConditionedTransformer:
    """A copy of the backbone with the updates in its own weights."""
    other = copy.copy(scene.backbone)
    other.transformer = copy.deepcopy(scene.backbone.transformer)
    for index, updates in adapters.updates.items():
        maps = other.attention_projections(other.blocks[int(index)])
        for name, update in updates.named_children():
            assert isinstance(update, LowRankUpdate)
            with torch.no_grad():
                maps[name].weight += (update.up.weight.double() @ update.down.weight.double()).float()
    # Hooks were copied with the modules: the reference is bare.
    for module in other.transformer.modules():
        module._forward_hooks.clear()
    return AudioConditionedTransformer(other, None)


def test_an_update_is_a_product_of_two_thin_matrices_in_float64() -> None:
    update, frozen = LowRankUpdate(24, 10, 3).double(), nn.Linear(24, 10).double()
    make_heard(update)
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0)).double()
    wanted = nn.functional.linear(x, frozen.weight + update.up.weight @ update.down.weight, frozen.bias)
    torch.testing.assert_close(frozen(x) + update(x), wanted, atol=1e-13, rtol=0)
    assert torch.linalg.matrix_rank(update.up.weight @ update.down.weight) == 3


@torch.no_grad()
def test_an_untrained_update_changes_no_bit_of_a_whole_backbone() -> None:
    scene, adapters, model = build(trained=False)
    bare = copy.deepcopy(scene.backbone.transformer)
    for module in bare.modules():
        module._forward_hooks.clear()
    reference: Any = copy.copy(scene.backbone)
    reference.transformer = bare
    wanted = AudioConditionedTransformer(reference, None)(*scene.asked())
    assert torch.equal(model(*scene.asked(), scene.heard(adapters)), wanted)
    assert torch.equal(model(*scene.asked()), wanted)
    # Each of the four maps of each block has its update, and moves the output once it is trained.
    assert [sorted(updates) for updates in adapters.updates.values()] == [["k", "out", "q", "v"]] * 2
    for updates in adapters.updates.values():
        for update in updates.children():
            before = copy.deepcopy(update.state_dict())
            make_heard(update)
            assert not torch.equal(model(*scene.asked()), wanted)
            update.load_state_dict(before)
    assert torch.equal(model(*scene.asked()), wanted)


@torch.no_grad()
def test_a_trained_update_equals_the_merged_weights() -> None:
    scene, adapters, model = build(trained=True)
    reference = merged(scene, adapters)
    found, wanted = model(*scene.asked()), reference(*scene.asked())
    plain = AudioConditionedTransformer(backbone(CONFIG), None)(*scene.asked())
    # Two sums in another order, a few dozen float32 roundings of 6e-8 on values of order one; the update itself moves
    # the output by a thousand times that.
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (found - plain).abs().max() > 1e-2


def test_gradients_reach_every_parameter() -> None:
    scene, adapters, model = build(trained=False)
    model(*scene.asked()).square().mean().backward()
    moved = {name for name, p in adapters.updates.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    # Before training the second factor is zero, and nothing reaches the first through it.
    assert moved == {f"{block}.{name}.up.weight" for block in (0, 1) for name in ("q", "k", "v", "out")}

    make_heard(adapters)
    adapters.zero_grad()
    model(*scene.asked(), scene.heard(adapters)).square().mean().backward()
    still = [name for name, p in adapters.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert not still
    assert all(parameter.grad is None for parameter in scene.backbone.transformer.parameters())


@pytest.mark.parametrize("rank", [1, 4])
def test_updates_count_in_the_share(rank: int) -> None:
    made = backbone()
    without = adapters_for(made, model_config())
    adapters = adapters_for(made, model_config(low_rank=rank))
    # Two blocks, four maps of 32 x 32, each with 32 r down and r 32 up.
    by_hand = 2 * 4 * (32 * rank + rank * 32)
    assert parameter_count(adapters) - parameter_count(without) == parameter_count(adapters.updates) == by_hand
    added = trainable_share(adapters, made.transformer) - trainable_share(without, made.transformer)
    assert added == pytest.approx(by_hand / parameter_count(made.transformer), rel=1e-9)


def test_updates_stand_in_every_block_wherever_attentions_do() -> None:
    config = model_config(blocks=4, low_rank=1, placement="second_half", every=2)
    adapters = adapters_for(backbone(config), config)
    assert sorted(adapters.updates) == ["0", "1", "2", "3"]
    assert sorted(adapters.attentions) == ["3"]

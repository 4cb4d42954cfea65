"""Several models over one backbone do not hear each other, and activation checkpointing changes no gradient."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from soundstage.config.tree import ModelConfig
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer

from .backbones.tiny import MEMBERS, Shelf
from .makers import Scene, adapters_for, backbone, make_heard, model_config, scene_of

CONFIG = model_config(low_rank=2)
Hearing = tuple[AudioAdapters, AudioConditionedTransformer]


@pytest.fixture(params=["stand-in", "wan2.1-t2v", "ltx-0.9.5", "cogvideox-5b-i2v"])
def scene(request: pytest.FixtureRequest, shelf: Shelf) -> Scene:
    """A fresh backbone of every family."""
    if request.param == "stand-in":
        return Scene(backbone(CONFIG))
    return scene_of(shelf.get(request.param).load(), MEMBERS[request.param])


def hearing(scene: Scene, seed: int, config: ModelConfig = CONFIG) -> Hearing:
    """A model over the scene's backbone whose adapters are random."""
    adapters = adapters_for(scene.backbone, config)
    make_heard(adapters, seed)
    return adapters, AudioConditionedTransformer(scene.backbone, adapters)


def alone(scene: Scene) -> Scene:
    """The same over a backbone that nobody else has hooks in."""
    made = copy.deepcopy(scene.backbone)
    for module in made.transformer.modules():
        module._forward_hooks.clear()
    return replace(scene, backbone=made)


def gradients(adapters: AudioAdapters) -> dict[str, torch.Tensor]:
    """A copy of every gradient, and none left behind."""
    found = {name: p.grad.clone() for name, p in adapters.named_parameters() if p.grad is not None}
    assert len(found) == len(list(adapters.parameters()))
    adapters.zero_grad()
    return found


def check_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Bit for bit: the same operations in the same order."""
    unequal = [name for name, gradient in wanted.items() if not torch.equal(found[name], gradient)]
    assert not unequal
    assert all(gradient.abs().max() > 0 for gradient in wanted.values())


@pytest.mark.parametrize("recorded", [False, True], ids=["no_grad", "recorded"])
def test_models_over_one_backbone_do_not_hear_each_other(scene: Scene, recorded: bool) -> None:
    apart = alone(scene)
    (one, first), (two, second) = hearing(scene, 1), hearing(scene, 2)
    (_, only_second), asked = hearing(apart, 2), scene.asked()
    bare = AudioConditionedTransformer(alone(scene).backbone, None)
    deaf = AudioConditionedTransformer(scene.backbone, None)
    with torch.set_grad_enabled(recorded):
        heard = first(*asked, scene.heard(one))
    assert heard.requires_grad == recorded
    # With its audio and without it, after a call of another model, recorded or not.
    with torch.no_grad():
        for audio in (scene.heard(two), None):
            assert torch.equal(second(*asked, audio), only_second(*asked, audio))
        assert torch.equal(deaf(*asked), bare(*asked))
        assert not torch.allclose(heard, bare(*asked), atol=1e-3)


def test_what_a_call_heard_is_gone_after_it(scene: Scene) -> None:
    adapters, model = hearing(scene, 1)
    bare = AudioConditionedTransformer(alone(scene).backbone, None)
    asked = scene.asked()

    def check() -> None:
        assert torch.equal(scene.backbone.predict(model._call, *asked).float(), bare(*asked))

    with torch.no_grad():
        model(*asked, scene.heard(adapters))
    check()
    loss = model(*asked, scene.heard(adapters)).square().mean()
    check()
    loss.backward()
    check()
    with pytest.raises(TypeError):
        model(*asked[:-1])
    check()


def test_activation_checkpointing_changes_no_gradient(scene: Scene) -> None:
    transformer: Any = scene.backbone.transformer
    adapters, model = hearing(scene, 1)
    asked = scene.asked()

    def loss() -> torch.Tensor:
        return model(*asked, scene.heard(adapters)).square().mean()

    loss().backward()
    wanted = gradients(adapters)
    transformer.enable_gradient_checkpointing()
    runs: list[torch.nn.Module] = []
    scene.backbone.blocks[0].register_forward_pre_hook(lambda block, _args: runs.append(block))
    transformer.train()
    loss().backward()
    # Blocks did run again, or this would prove nothing.
    assert len(runs) == 2
    check_equal(gradients(adapters), wanted)


def test_calls_before_one_backward_pass_keep_their_own_sound(scene: Scene) -> None:
    # Two models and two sounds, all recorded before anything is differentiated.
    transformer: Any = scene.backbone.transformer
    (one, first), (two, second) = hearing(scene, 1), hearing(scene, 2)
    asked = scene.asked()
    calls = [(first, scene.heard(one, seed=1)), (second, scene.heard(two, seed=2)), (first, scene.heard(one, seed=3))]

    def run() -> list[dict[str, torch.Tensor]]:
        losses = [model(*asked, audio).square().mean() for model, audio in calls]
        with torch.no_grad():
            second(*asked, None)
        torch.stack(losses).sum().backward()
        return [gradients(one), gradients(two)]

    wanted = run()
    calls = [
        (first, scene.heard(one, seed=1)),
        (second, scene.heard(two, seed=2)),
        (first, scene.heard(one, seed=3)),
    ]
    transformer.enable_gradient_checkpointing()
    transformer.train()
    for found, gradient in zip(run(), wanted, strict=True):
        check_equal(found, gradient)


def test_detached_hooks_leave_the_backbone_as_it_was(scene: Scene) -> None:
    adapters, model = hearing(scene, 1)
    before = sum(len(module._forward_hooks) for module in scene.backbone.transformer.modules())
    assert before == len(adapters.attentions) + sum(len(updates) for updates in adapters.updates.values())
    model.detach_hooks()
    assert not any(module._forward_hooks for module in scene.backbone.transformer.modules())
    bare = AudioConditionedTransformer(scene.backbone, None)
    with torch.no_grad():
        assert torch.equal(model(*scene.asked(), scene.heard(adapters)), bare(*scene.asked()))

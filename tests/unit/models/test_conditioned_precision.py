"""Adapters in float32 over a backbone frozen in bfloat16, and everything under autocast: near float32, never NaN.

bfloat16 keeps 8 bits: a rounding changes a value by at most 2^-9 of it, evenly spread by 2^-9 / sqrt(3). Roundings of a
forward pass add in squares, being unrelated; two blocks round each token some 50 times: sqrt(50 / 3) x 2^-9 = 0.8 % of
the output. Gradients come back through as many again. Twice that is what these tests allow.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from soundstage.models.backbones.load import pretrained_backbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer

from .backbones.tiny import MEMBERS, Shelf
from .makers import Scene, adapters_for, make_heard, model_config, scene_of

FORWARD, BACKWARD = 2 * 0.008, 2 * 0.008 * 2**0.5
CONFIG = model_config(low_rank=2)


@pytest.fixture(params=["wan2.1-t2v", "wan2.2-ti2v", "ltx-0.9.5", "cogvideox-5b-i2v"])
def scenes(request: pytest.FixtureRequest, shelf: Shelf) -> tuple[Scene, Scene]:
    """The same checkpoint, loaded in float32 and in bfloat16."""
    config = shelf.get(request.param).config
    made = [pretrained_backbone(config.model_copy(update={"dtype": dtype})) for dtype in ("fp32", "bf16")]
    plain, half = (scene_of(each, MEMBERS[request.param]) for each in made)
    return plain, half


def adapted(scene: Scene, trained: bool = True) -> tuple[AudioAdapters, AudioConditionedTransformer]:
    adapters = adapters_for(scene.backbone, CONFIG, coarse=True)
    if trained:
        make_heard(adapters)
    return adapters, AudioConditionedTransformer(scene.backbone, adapters)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Length of the difference over the length of what is wanted."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def run(scene: Scene, cast: AbstractContextManager[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the gradient of its mean square by every parameter, side by side."""
    adapters, model = adapted(scene)
    assert {parameter.dtype for parameter in adapters.parameters()} == {torch.float32}
    with cast:
        output = model(*scene.asked(), scene.heard(adapters))
    assert output.dtype == torch.float32
    output.square().mean().backward()
    gradients = [parameter.grad for parameter in adapters.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    return output.detach(), torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def check_near(found: tuple[torch.Tensor, torch.Tensor], wanted: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Within what 8 bits allow, and not of more bits than that."""
    assert 2**-12 < relative(found[0], wanted[0]) < FORWARD
    assert relative(found[1], wanted[1]) < BACKWARD


def test_a_backbone_in_bfloat16_is_near_the_one_in_float32(scenes: tuple[Scene, Scene]) -> None:
    plain, half = scenes
    assert half.backbone.attention_projections(half.backbone.blocks[0])["q"].weight.dtype == torch.bfloat16
    assert half.backbone.fingerprint == plain.backbone.fingerprint
    check_near(run(half, nullcontext()), run(plain, nullcontext()))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # diffusers' own norms, slower not wrong
def test_autocast_is_near_float32(scenes: tuple[Scene, Scene]) -> None:
    plain, _ = scenes
    check_near(run(plain, torch.autocast("cpu", dtype=torch.bfloat16)), run(plain, nullcontext()))


@torch.no_grad()
def test_untrained_adapters_change_no_bit_in_bfloat16_either(scenes: tuple[Scene, Scene]) -> None:
    _, half = scenes
    bare = AudioConditionedTransformer(copy.deepcopy(half.backbone), None)
    adapters, model = adapted(half, trained=False)
    for cast in (nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with cast:
            assert torch.equal(model(*half.asked(), half.heard(adapters)), bare(*half.asked()))


@torch.no_grad()
@pytest.mark.parametrize("cast", [False, True], ids=["plain", "autocast"])
def test_audio_computed_beforehand_changes_no_bit_in_bfloat16_either(scenes: tuple[Scene, Scene], cast: bool) -> None:
    _, half = scenes
    adapters, model = adapted(half)
    with torch.autocast("cpu", dtype=torch.bfloat16) if cast else nullcontext():
        audio = half.heard(adapters)
        found = model(*half.asked(), adapters.cached(audio))
        assert torch.equal(found, model(*half.asked(), audio))
        assert torch.equal(found, model(*half.asked(), replace(audio, keys_values={})))
    if cast:
        # Sound projected in float32 before autocast begins is as welcome.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            audio = adapters.cached(half.heard(adapters))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert relative(model(*half.asked(), audio), found) < FORWARD

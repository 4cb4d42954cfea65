"""Counts on tensors without data against real runs, against torch's own GPU rules, and against each other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from soundstage.config import SoundstageConfig, load_config
from soundstage.models.backbones.load import new_backbone
from soundstage.models.conditioned import AudioAdapters, AudioConditionedTransformer
from soundstage.models.info import declared_grids, on_meta
from soundstage.planning import step
from soundstage.planning.kernels import Kernels
from soundstage.planning.ledger import LiveBytes
from soundstage.planning.shapes import sample_shape
from soundstage.planning.step import StepCount, StepCounts, count_step
from soundstage.training.feed import Batch
from soundstage.training.objective import DenoisingObjective

STEP = ["pretrain.micro_batch=3", "model.adapter.low_rank=1", "model.adapter.max_share=1"]


def _config(*overrides: str) -> SoundstageConfig:
    return load_config("micro", overrides=[*STEP, *overrides])


def _planned(config: SoundstageConfig, **options: Any) -> StepCount:
    return count_step(config, config.pretrain, sample_shape(config, on_meta(config)), **options)


def _real(config: SoundstageConfig) -> tuple[DenoisingObjective, Batch]:
    backbone = new_backbone(config.model.backbone, seed=0)
    backbone.transformer.requires_grad_(False)
    adapters = AudioAdapters(backbone, declared_grids(config), config.model.adapter)
    model = AudioConditionedTransformer(backbone, adapters)
    objective = DenoisingObjective(backbone, model, config.model, config.window, config.pretrain)
    return objective, step.fake_batch(sample_shape(config, on_meta(config)), config.pretrain.micro_batch)


def _saved_bytes(objective: DenoisingObjective, batch: Batch) -> int:
    """Of distinct storages that autograd saves in a real forward pass, but for weights and the batch itself."""
    given = [*objective.parameters(), *objective.buffers(), batch.latents, batch.noise, batch.sigma, batch.audio_keep]
    given += [*batch.audio.values(), batch.text.embeddings]
    known = {each.untyped_storage().data_ptr() for each in given}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda each: each):
        loss = objective(batch)
    assert loss.requires_grad
    return sum(found.values())


def test_what_is_kept_for_the_backward_pass_is_what_a_real_one_saves() -> None:
    config = _config()
    saved = _saved_bytes(*_real(config))
    # Beside what is saved: the loss, the windows' small tables, and what torch holds of them. Nothing that grows.
    assert saved <= _planned(config, device="cpu").kept <= saved + 8192


def test_operations_are_those_of_torchs_counter() -> None:
    config = _config()
    objective, batch = _real(config)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = objective(batch)
        forward = counter.get_total_flops()
        attention = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        loss.backward()
    planned = _planned(config, device="cpu")
    assert planned.forward_flop == forward
    # The fused kernel multiplies queries by keys again, and makes gradients that nobody asked for as well.
    backward = counter.get_total_flops() - forward
    assert backward <= planned.backward_flop <= backward + 2.5 * attention


def test_checkpointing_computes_blocks_again_and_keeps_less() -> None:
    kept, again = _planned(_config()), _planned(_config("pretrain.activation_checkpointing=true"))
    assert again.forward_flop == kept.forward_flop
    assert kept.backward_flop < again.backward_flop <= kept.backward_flop + kept.forward_flop
    assert again.kept < again.peak < kept.peak


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_counts_of_few_blocks_and_samples_tell_those_of_many(checkpointing: str) -> None:
    layers, again = "model.backbone.num_layers=4", f"pretrain.activation_checkpointing={checkpointing}"
    config = _config(layers, again, "pretrain.precision=bf16")
    told = StepCounts(config, config.pretrain, sample_shape(config, on_meta(config))).at(3)
    # The last gradient at hand when the peak comes may be another's: a matter of bytes.
    assert asdict(told) == pytest.approx(asdict(_planned(config)), rel=1e-3)


class _NoGpu(Kernels):
    """Attention alone is ours; all other rules are torch's own for tensors on a GPU."""

    def __init__(self) -> None:
        super().__init__("cpu")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `Kernels`."""
        if func is not F.scaled_dot_product_attention:
            return super().__torch_function__(func, types, args, kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        parts = [given[name].to(torch.bfloat16) for name in names[:3]]
        if given.get("attn_mask") is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(*parts, scale=given.get("scale"))[0]
        mask = torch.zeros(given["attn_mask"].shape, dtype=torch.bfloat16, device="cuda")
        mask = mask.expand(*parts[0].shape[:-1], parts[1].shape[-2])
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(*parts, mask, True, scale=given.get("scale"))[0]


@pytest.mark.parametrize("preset", ["wan2.1-t2v-1.3b", "ltx-video-2b", "cogvideox-2b"])
def test_a_gpus_rules_are_torchs(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass of one block on fake GPU tensors under torch's GPU autocast keeps as many bytes.

    Fake tensors on a GPU have no backward pass on a machine without one, which is why counts are made otherwise.
    """
    config = load_config(preset, overrides=["pretrain.micro_batch=1"])
    sample = sample_shape(config, on_meta(config))
    planned = count_step(config, config.pretrain, sample, "cuda", blocks=1)
    backbone, _ = on_meta(config)
    del backbone.blocks[1:]
    _ = backbone.noising
    with torch.device("meta"):
        adapters = AudioAdapters(backbone, declared_grids(config), config.model.adapter)
    fake_like, gpu, kernels = step._fake_like, torch.device("cuda"), _NoGpu()
    monkeypatch.setattr(step, "_fake_like", lambda window: fake_like(window).to(gpu))
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True), kernels:
        with gpu:
            step.give_shape(backbone.transformer, torch.bfloat16)
            step.give_shape(adapters, torch.float32)
        model = AudioConditionedTransformer(backbone, adapters)
        objective = step._Objective(kernels, backbone, model, config.model, config.window, config.pretrain)
        batch = step.fake_batch(sample, 1).to(gpu)
        torch.set_autocast_enabled("cuda", True)  # torch.autocast refuses a device that is not there
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.autocast_increment_nesting()
        with LiveBytes([*objective.parameters(), *objective.buffers(), *step._tensors(batch)]) as live:
            loss = objective(batch)
            torch.autocast_decrement_nesting()
            torch.clear_autocast_cache()
            kept = live.now
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
    assert loss.requires_grad
    # Scalars of the loss.
    assert planned.kept == pytest.approx(kept, abs=64)

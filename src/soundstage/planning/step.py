"""One training step of a configuration at full size on tensors without data: its bytes and its operations.

The modules are the very ones that train: the diffusers class of the backbone, the adapters, the objective. They run on
torch's fake tensors, which carry shape and type and follow autocast, so nothing is estimated but what happens inside of
kernels. Operations are counted by torch's formulas: two for a multiplication with its addition, of matrix products,
convolutions and attention alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from ..config import SoundstageConfig
from ..config.tree import TrainConfig
from ..models.backbones.base import TextEmbedding
from ..models.conditioned import AudioAdapters, AudioConditionedTransformer
from ..models.info import backbone_on_meta, declared_grids
from ..models.windows import AudioWindows
from ..training.feed import Batch
from ..training.objective import DenoisingObjective
from .kernels import Device, Kernels
from .ledger import LiveBytes
from .shapes import SampleShape


@dataclass(frozen=True)
class StepCount:
    """Bytes and operations of one forward and backward pass over one micro batch on one rank.

    frozen, trainable: bytes of weights. batch: of what the feed hands over. kept: held between the passes, for the
    backward one. peak: the most that is held at once beyond weights and batch, gradients of trained weights included.
    forward_flop, backward_flop: the latter with what is computed again.
    """

    frozen: int
    trainable: int
    batch: int
    kept: int
    peak: int
    forward_flop: int
    backward_flop: int
    halved: bool
    """frozen weights are in bfloat16"""

    def grown(self, other: StepCount, times: int) -> StepCount:
        """The count with its difference to `other` added so many times."""

        def by(name: str) -> int:
            here = int(getattr(self, name))
            return here + times * (int(getattr(other, name)) - here)

        counts = {each.name: by(each.name) for each in fields(self) if each.name != "halved"}
        return StepCount(**counts, halved=self.halved)


class StepCounts:
    """Counts of a step by micro batch, from those of few samples and few blocks.

    A block does what the one before does, and a sample what the other does, so every count is a constant, or grows by
    block and by sample; the first block differs, for nothing before it trains. Where adapters lie in one half of the
    blocks only, all blocks are run. A test compares with the whole.
    """

    def __init__(
        self,
        config: SoundstageConfig,
        train: TrainConfig,
        sample: SampleShape,
        device: Device = "cuda",
        *,
        trains_backbone: bool = False,
    ) -> None:
        def count(blocks: int | None, micro_batch: int) -> StepCount:
            part = train.model_copy(update={"micro_batch": micro_batch})
            return count_step(config, part, sample, device, trains_backbone=trains_backbone, blocks=blocks)

        total = len(backbone_on_meta(config.model.backbone).blocks)
        every = 1 if trains_backbone else config.model.adapter.every
        fewest = total % every + 2 * every
        whole = config.model.adapter.placement != "all" or total <= fewest + every
        found = []
        for micro_batch in (1, 2):
            if whole:
                found.append(count(None, micro_batch))
            else:
                few, more = count(fewest, micro_batch), count(fewest + every, micro_batch)
                found.append(few.grown(more, (total - fewest) // every))
        self._one, self._two = found

    def at(self, micro_batch: int) -> StepCount:
        """The counts of `micro_batch` samples."""
        return self._one.grown(self._two, micro_batch - 1)


def count_step(
    config: SoundstageConfig,
    train: TrainConfig,
    sample: SampleShape,
    device: Device = "cuda",
    *,
    trains_backbone: bool = False,
    blocks: int | None = None,
) -> StepCount:
    """Count a step of `train.micro_batch` samples at `train.precision`, with `train.activation_checkpointing` or not.

    device: whose kernels and autocast rules. trains_backbone: the stand-in itself trains.
    blocks: only the first so many are there.
    """
    backbone = backbone_on_meta(config.model.backbone)
    if blocks is not None:
        del backbone.blocks[blocks:]
    with torch.device("meta"):
        adapters = AudioAdapters(backbone, declared_grids(config), config.model.adapter)
    dtype = torch.bfloat16 if config.model.backbone.dtype == "bf16" and not backbone.stand_in else torch.float32
    kernels = Kernels(device)
    _ = backbone.noising  # made now, for its numbers are real
    with FakeTensorMode(allow_non_fake_inputs=True), kernels:
        give_shape(backbone.transformer, dtype)
        give_shape(adapters, torch.float32)
        backbone.transformer.requires_grad_(trains_backbone)
        if train.activation_checkpointing:
            transformer: Any = backbone.transformer
            transformer.enable_gradient_checkpointing(kernels.checkpointed)
        model = AudioConditionedTransformer(backbone, None if trains_backbone else adapters)
        objective = _Objective(kernels, backbone, model, config.model, config.window, train).train()
        batch = fake_batch(sample, train.micro_batch)
        return _counted(objective, batch, train.precision, halved=dtype == torch.bfloat16)


class _Objective(DenoisingObjective):
    """The objective, whose windows of audio are found from real times."""

    def __init__(self, kernels: Kernels, *parts: Any) -> None:
        super().__init__(*parts)
        self._kernels = kernels

    def _windows_of(self, batch: Batch, adapters: AudioAdapters) -> dict[str, AudioWindows]:
        with _disable_current_modes():
            audio = {name: torch.empty(heard.shape) for name, heard in batch.audio.items()}
            shaped = replace(batch, latents=torch.empty(batch.latents.shape), audio=audio)
            made = super()._windows_of(shaped, adapters)
            self._kernels.windows_full = all(int(each.visible.all()) for each in made.values())
        return {name: _fake_like(window) for name, window in made.items()}


def _counted(objective: nn.Module, batch: Batch, precision: str, *, halved: bool) -> StepCount:
    weights = [*objective.parameters(), *objective.buffers()]
    given = _tensors(batch)
    with LiveBytes([*weights, *given]) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = objective(batch)
        kept, forward = live.now, live.flop
        loss.backward()
    trained = sum(_bytes(each) for each in objective.parameters() if each.requires_grad)
    return StepCount(
        frozen=sum(map(_bytes, weights)) - trained,
        trainable=trained,
        batch=sum(map(_bytes, given)),
        kept=kept,
        peak=live.peak,
        forward_flop=forward,
        backward_flop=live.flop - forward,
        halved=halved,
    )


def fake_batch(sample: SampleShape, micro_batch: int) -> Batch:
    """A batch of `micro_batch` samples as the feed makes it: float32, of zeros."""
    latents = torch.zeros(micro_batch, *sample.latents)
    tokens, width = sample.text
    text = TextEmbedding(torch.zeros(micro_batch, tokens, width), torch.ones(micro_batch, tokens, dtype=torch.bool))
    audio = {name: torch.zeros(micro_batch, *shape) for name, shape in sample.audio.items()}
    ones = torch.ones(micro_batch)
    return Batch(latents, audio, text, torch.zeros_like(latents), ones / 2, ones, ("",) * micro_batch, ones)


def _tensors(batch: Batch) -> list[torch.Tensor]:
    named = (batch.latents, batch.noise, batch.sigma, batch.audio_keep, batch.text.embeddings, batch.text.mask)
    weight = [] if batch.weight is None else [batch.weight]
    return [*named, *batch.audio.values(), *weight]


def _fake_like(window: AudioWindows) -> AudioWindows:
    return AudioWindows(*(torch.empty(part.shape, dtype=part.dtype) for part in vars(window).values()))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def give_shape(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace weights on `meta` by fake ones, in the type that `from_pretrained` would load them in."""
    # diffusers leaves modules of these names in float32 whatever type is asked for.
    kept: tuple[str, ...] = tuple(getattr(module, "_keep_in_fp32_modules", None) or ())
    for path, part in module.named_modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                single = any(word in kept for word in [*path.split("."), name])
                cast = torch.float32 if single or not weight.is_floating_point() else dtype
                data = torch.empty(weight.shape, dtype=cast)
                part._parameters[name] = nn.Parameter(data, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)

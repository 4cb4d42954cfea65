"""A frozen video transformer that hears: adapters hooked after its blocks, leaving its code and weights untouched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..config.tree import AdapterConfig
from ..errors import ConfigError
from .adapter import AudioContext, AudioProjector, WindowedAudioAttention
from .audio.base import FeatureGrid
from .backbones.base import Backbone, TextEmbedding
from .low_rank import LowRankUpdate
from .windows import AudioWindows


class AudioAdapters(nn.Module):
    """All new parameters: a projector, windowed attentions after the chosen blocks, low-rank updates if configured."""

    def __init__(self, backbone: Backbone, grids: Mapping[str, FeatureGrid], config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.grids = dict(grids)
        self.projector = AudioProjector(grids, config.audio_dim)
        self.block_indices = placed(len(backbone.blocks), config)
        self.attentions = nn.ModuleDict(
            {str(index): WindowedAudioAttention(backbone.hidden_dim, config) for index in self.block_indices}
        )
        self.updates = nn.ModuleDict()
        if config.low_rank:
            for index, block in enumerate(backbone.blocks):
                maps = backbone.attention_projections(block).items()
                self.updates[str(index)] = nn.ModuleDict(
                    {name: LowRankUpdate(m.in_features, m.out_features, config.low_rank) for name, m in maps}
                )

    def context(
        self, features: Mapping[str, torch.Tensor], windows: Mapping[str, AudioWindows], keep: torch.Tensor
    ) -> AudioContext:
        """Project audio once; every block attends to the same tokens."""
        context: AudioContext = self.projector(features, windows, keep)
        return context

    def cached(self, context: AudioContext) -> AudioContext:
        """`context` with every block's keys and values, for many denoising steps of the same samples."""
        keys_values = {}
        for name, attention in self.attentions.items():
            assert isinstance(attention, WindowedAudioAttention)
            keys_values[name] = attention.keys_values(context)
        return replace(context, keys_values=keys_values)


def placed(num_blocks: int, config: AdapterConfig) -> tuple[int, ...]:
    """Indices of the blocks that carry adapters.

    Raises:
        ConfigError: none would.
    """
    half = num_blocks // 2
    first, last = {"all": (0, num_blocks), "first_half": (0, half), "second_half": (half, num_blocks)}[config.placement]
    indices = tuple(range(first + config.every - 1, last, config.every))
    if not indices:
        raise ConfigError(
            f"model.adapter.every={config.every} with placement={config.placement} leaves no block of {num_blocks} "
            "with an adapter; lower every, or set placement=all"
        )
    return indices


class AudioConditionedTransformer(nn.Module):
    """`backbone` with `adapters`; without them, calling it is calling the backbone.

    Hooks act during a call of this model only, and during the backward pass of such a call, where activation
    checkpointing runs its blocks again; several models may so share a backbone.
    """

    def __init__(self, backbone: Backbone, adapters: AudioAdapters | None) -> None:
        super().__init__()
        self.transformer = backbone.transformer
        self.adapters = adapters
        self._backbone = backbone
        self._context: AudioContext | None = None
        self._handles: list[Any] = []
        if adapters is None:
            return
        for index in adapters.block_indices:
            self._handles.append(backbone.blocks[index].register_forward_hook(self._heard(str(index))))
        for name, updates in adapters.updates.items():
            maps = backbone.attention_projections(backbone.blocks[int(name)])
            for key, update in updates.named_children():
                self._handles.append(maps[key].register_forward_hook(self._updated(update)))

    def _heard(self, index: str) -> Callable[..., Any]:
        def add_audio(_module: nn.Module, _args: object, output: Any) -> Any:
            if self._backbone.caller is not self or self._context is None or self.adapters is None:
                return output
            hidden = output[0] if isinstance(output, tuple) else output
            cached = self._context.keys_values
            attention = self.adapters.attentions[index]
            hidden = hidden + attention(hidden, self._context, cached[index] if cached else None)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return add_audio

    def _updated(self, update: nn.Module) -> Callable[..., Any]:
        def add_update(_module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            if self._backbone.caller is not self:
                return output
            return output + update(args[0]).to(output.dtype)

        return add_update

    def forward(
        self,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,
        audio: AudioContext | None = None,
    ) -> torch.Tensor:
        """The network's output (B, C, F, h, w) in float32; `audio` None is the model without its audio layers.

        noisy: (B, C, F, h, w). first: (B, C, 1, h, w), clean. timestep: (B,) in the scheduler's units.
        """
        self._begin(audio)
        try:
            output = self._backbone.predict(self._call, noisy, first, timestep, text, fps).float()
        finally:
            self._end()
        if output.requires_grad:
            output.register_hook(lambda _gradient: self._again(audio))
        return output

    def _begin(self, audio: AudioContext | None) -> None:
        self._context, self._backbone.caller = audio, self

    def _end(self) -> None:
        self._context, self._backbone.caller = None, None

    def _again(self, audio: AudioContext | None) -> None:
        """Let hooks act as in the call whose backward pass begins, until that of another begins or all have ended."""
        self._begin(audio)
        # The engine's only way to tell of the end; torch's own FSDP is built on it.
        torch.autograd.Variable._execution_engine.queue_callback(self._end)

    def _call(self, **arguments: Any) -> torch.Tensor:
        """The transformer on floating-point arguments in its own type; integers and timesteps stay as they are."""
        for name in ("hidden_states", "encoder_hidden_states"):
            arguments[name] = arguments[name].to(self._dtype)
        output: torch.Tensor = self.transformer(**arguments, return_dict=False)[0]
        return output

    @property
    def _dtype(self) -> torch.dtype:
        maps = self._backbone.attention_projections(self._backbone.blocks[0])
        return next(iter(maps.values())).weight.dtype

    def detach_hooks(self) -> None:
        """Leave the backbone as it was found."""
        for handle in self._handles:
            with suppress(KeyError):
                handle.remove()
        self._handles.clear()


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def trainable_share(adapters: nn.Module, transformer: nn.Module) -> float:
    """New trainable parameters over those of the frozen denoising transformer (no VAE, no text encoder)."""
    return parameter_count(adapters) / parameter_count(transformer)


def check_budget(adapters: nn.Module, transformer: nn.Module, max_share: float) -> float:
    """The trainable share.

    Raises:
        ConfigError: it exceeds `max_share`.
    """
    share = trainable_share(adapters, transformer)
    if share > max_share:
        raise ConfigError(
            f"adapters have {parameter_count(adapters)} parameters, {share:.2%} of the backbone's "
            f"{parameter_count(transformer)}; allowed are {max_share:.2%}: lower model.adapter.inner_dim, audio_dim or "
            "low_rank, or raise model.adapter.every"
        )
    return share

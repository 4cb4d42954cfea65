"""A frozen video transformer that hears: adapters hooked after its blocks, leaving its code and weights untouched."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..config.tree import AdapterConfig
from ..errors import ConfigError
from .adapter import AudioContext, AudioProjector, WindowedAudioAttention
from .windows import AudioWindows


class AudioAdapters(nn.Module):
    """All new parameters: one projector, one windowed attention for every n-th block."""

    def __init__(self, hidden_dim: int, num_blocks: int, feature_dim: int, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = AudioProjector(feature_dim, config.audio_dim)
        self.block_indices = tuple(range(config.every - 1, num_blocks, config.every))
        self.attentions = nn.ModuleDict(
            {str(index): WindowedAudioAttention(hidden_dim, config) for index in self.block_indices}
        )

    def context(self, features: torch.Tensor, windows: AudioWindows, keep: torch.Tensor) -> AudioContext:
        """Project audio once; every block attends to the same tokens."""
        context: AudioContext = self.projector(features, windows, keep)
        return context


class AudioConditionedTransformer(nn.Module):
    """`transformer` with `adapters`; calling it without audio is calling the transformer.

    `blocks` is the transformer's block list, as its family states it. A block's output must be hidden states
    (B, F * S, C) whose tokens run frame by frame.
    """

    def __init__(self, transformer: nn.Module, blocks: nn.ModuleList, adapters: AudioAdapters | None) -> None:
        super().__init__()
        self.transformer = transformer
        self.adapters = adapters
        self._context: AudioContext | None = None
        for index in adapters.block_indices if adapters else ():
            blocks[index].register_forward_hook(self._hook(index))

    def _hook(self, index: int) -> Any:
        def add_audio(_module: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
            if self._context is None or self.adapters is None:
                return output
            added: torch.Tensor = self.adapters.attentions[str(index)](output, self._context)
            return output + added

        return add_audio

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        audio: AudioContext | None = None,
    ) -> torch.Tensor:
        """The transformer's output for `hidden_states` (B, C, F, H, W); `audio` None is the audio-free model.

        The context stays set after the call: activation checkpointing runs the blocks again in the backward pass.
        """
        self._context = audio
        output: torch.Tensor = self.transformer(
            hidden_states=hidden_states,
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states,
            return_dict=False,
        )[0]
        return output


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
            f"{parameter_count(transformer)}; allowed are {max_share:.2%}: lower model.adapter.inner_dim or audio_dim, "
            "or raise model.adapter.every"
        )
    return share

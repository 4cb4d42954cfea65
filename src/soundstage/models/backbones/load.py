"""Backbones and their encoders from configuration: the one place that knows the families by name."""

from __future__ import annotations

from pathlib import Path

import torch

from ...config.tree import BackboneConfig, ModelConfig
from ...errors import ConfigError
from .base import Backbone, Codec, TextEncoder, weights_fingerprint
from .codecs import PixelCodec
from .wan import StandInText, create_stand_in, load_stand_in


def refuse_pretrained(config: BackboneConfig) -> None:
    """Raise for what this version cannot load yet.

    Raises:
        ConfigError: `pretrained` is set.
    """
    if config.pretrained is not None:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained!r}: this version trains over its own stand-in only; "
            "unset it (loading of pretrained Wan, LTX-Video and CogVideoX checkpoints is planned)"
        )


def load_backbone(folder: Path) -> Backbone:
    """A saved backbone, frozen and in evaluation mode."""
    backbone = load_stand_in(folder)
    backbone.transformer.requires_grad_(False).eval()
    return backbone


def new_backbone(config: BackboneConfig, seed: int) -> Backbone:
    """An untrained stand-in."""
    refuse_pretrained(config)
    return create_stand_in(config, seed)


def encoders(config: ModelConfig) -> tuple[Codec, TextEncoder]:
    """What the encode stage needs of a backbone: its codec and its text encoder, without the transformer."""
    refuse_pretrained(config.backbone)
    return PixelCodec(), StandInText.create(config.backbone.text_dim)


def encoder_fingerprints(config: ModelConfig) -> dict[str, str]:
    """Identity of every encoder, weights and settings: a shard index carries it, a reader compares it."""
    refuse_pretrained(config.backbone)
    text = StandInText.create(config.backbone.text_dim).encoder_module
    return {
        "codec": "pixels",
        "text": weights_fingerprint(text, {"class": type(text).__name__, "text_dim": config.backbone.text_dim}),
        "audio": "log-mel+onset:" + config.audio.canonical_json(),
    }


@torch.no_grad()
def encode_captions(text: TextEncoder, captions: list[str]) -> torch.Tensor:
    """Embeddings (N, L, text_dim) of captions, one at a time so that padding and batch cannot change a bit."""
    return torch.cat([text.encode([caption]) for caption in captions])

"""The Wan family: diffusers' `WanTransformer3DModel`, here as the small stand-in that the demonstration trains first.

Token layout: a latent (F, H, W) in patches of (1, p, p), flattened frame by frame, so block outputs are
(B, F * (H/p) * (W/p), C). The first frame is given as extra input channels beside the noisy latents on every frame,
as Wan's image-to-video checkpoints do with their first latent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...config.tree import BackboneConfig
from ...errors import ConfigError
from ...stages.files import write_json
from .base import DESCRIPTION_FILE, Backbone, read_description, weights_fingerprint
from .codecs import PixelCodec

_TEXT_SEED = 1234
_MAX_CAPTION_BYTES = 48
_SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0}


class StandInText:
    """A frozen, randomly initialised UMT5 encoder over bytes: distinct captions get distinct embeddings, no more.

    It is of the class that Wan uses and is never trained; it understands nothing.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any) -> None:
        self.encoder_module = encoder
        self.tokenizer = tokenizer

    @staticmethod
    def create(text_dim: int) -> StandInText:
        """The encoder of this width; equal for everyone, whatever the state of the global random generator."""
        from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

        config = UMT5Config(
            vocab_size=384, d_model=text_dim, d_kv=text_dim // 2, d_ff=text_dim * 2, num_layers=2, num_heads=2
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_TEXT_SEED)
            encoder = UMT5EncoderModel(config).eval().requires_grad_(False)
        return StandInText(encoder, ByT5Tokenizer())

    @torch.no_grad()
    def encode(self, captions: list[str]) -> torch.Tensor:
        """Captions to (B, 48, text_dim); positions after the caption's end are zero, as Wan's pipeline leaves them."""
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=_MAX_CAPTION_BYTES, return_tensors="pt"
        )
        hidden: torch.Tensor = self.encoder_module(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return hidden * tokens.attention_mask[..., None].to(hidden.dtype)


def create_stand_in(config: BackboneConfig, seed: int) -> Backbone:
    """An untrained stand-in of the configured shape."""
    from diffusers import WanTransformer3DModel

    codec = PixelCodec()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(
            patch_size=(1, config.patch_size, config.patch_size),
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=config.attention_head_dim,
            in_channels=2 * codec.channels,
            out_channels=codec.channels,
            text_dim=config.text_dim,
            freq_dim=64,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
            cross_attn_norm=True,
            rope_max_seq_len=64,
        )
    return _assemble(transformer, StandInText.create(config.text_dim), config.prediction)


def save_stand_in(backbone: Backbone, folder: Path) -> None:
    """Write transformer, text encoder and tokenizer in diffusers' layout, and `backbone.json` about them."""
    assert isinstance(backbone.text, StandInText)
    transformer: Any = backbone.transformer
    text_encoder: Any = backbone.text.encoder_module
    transformer.save_pretrained(folder / "transformer")
    text_encoder.save_pretrained(folder / "text_encoder")
    backbone.text.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", backbone.scheduler_config)
    write_json(
        folder / DESCRIPTION_FILE,
        {
            "family": "wan",
            "stand_in": True,
            "codec": "pixels",
            "prediction": backbone.prediction,
            "preconditioned": backbone.prediction == "clean_residual",
            "fingerprint": fingerprint(backbone.transformer, backbone.prediction),
            "licence": "Apache-2.0",
        },
    )


def load_stand_in(folder: Path) -> Backbone:
    """Load what `save_stand_in` wrote.

    Raises:
        ConfigError: not a stand-in, or weights that are not the ones described.
    """
    from diffusers import WanTransformer3DModel
    from transformers import ByT5Tokenizer, UMT5EncoderModel

    description = read_description(folder)
    if description.get("codec") != "pixels":
        raise ConfigError(
            f"{folder} holds no stand-in backbone (backbone.json says {description or 'nothing'}); "
            "pretrained families are not supported by this version"
        )
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", local_files_only=True)
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", local_files_only=True)
    tokenizer = ByT5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    backbone = _assemble(
        transformer, StandInText(encoder.eval().requires_grad_(False), tokenizer), description["prediction"]
    )
    backbone.scheduler_config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    if backbone.fingerprint != description["fingerprint"]:
        raise ConfigError(
            f"{folder}: weights have fingerprint {backbone.fingerprint[:16]}, backbone.json says "
            f"{description['fingerprint'][:16]}; the folder was altered: rerun `soundstage train backbone`"
        )
    return backbone


def fingerprint(transformer: nn.Module, prediction: str) -> str:
    """Identity of a backbone: its weights and what its output means."""
    return weights_fingerprint(transformer, {"family": "wan", "prediction": prediction})


def _assemble(transformer: Any, text: StandInText, prediction: Any) -> Backbone:
    heads, head_dim = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    return Backbone(
        family="wan",
        transformer=transformer,
        blocks=transformer.blocks,
        hidden_dim=heads * head_dim,
        codec=PixelCodec(),
        text=text,
        scheduler_config=dict(_SCHEDULER),
        prediction=prediction,
        fingerprint=fingerprint(transformer, prediction),
        stand_in=True,
    )

"""The small stand-in that the demonstration trains first: a Wan-class transformer on pixels.

Its text encoder has random weights. It needs nothing from a hub, and says of itself that it is a stand-in wherever it
goes.

The first frame is given as extra input channels beside the noisy latents on every latent frame, much as Wan's
image-to-video checkpoints do on their first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from ...config.tree import BackboneConfig
from ...errors import ConfigError
from ...stages.files import write_json
from ..noising import CleanResidual, FlowVelocity, Noising
from .base import (
    DESCRIPTION_FILE,
    CodecShape,
    FirstFrameWay,
    TextEmbedding,
    TextEncoder,
    Transformer,
    read_description,
    weights_fingerprint,
)
from .codecs import PixelCodec
from .text import T5Text
from .wan import WanBackbone

LICENCE = "Apache-2.0"
_TEXT_SEED = 1234
_TRAINED = "trained by the stage `backbone`"
_MAX_CAPTION_BYTES = 48
_SCHEDULER_CLASS = "FlowMatchEulerDiscreteScheduler"
_SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0}


@dataclass(kw_only=True)
class StandIn(WanBackbone):
    """See the module."""

    predicts: Literal["velocity", "clean_residual"]

    @property
    def first_frame(self) -> FirstFrameWay:
        """See `Backbone`."""
        return "channels"

    @property
    def first_frame_native(self) -> bool:
        """See `Backbone`."""
        return True

    def previous(self, latents: torch.Tensor) -> torch.Tensor:
        """See `Backbone`: frame by frame, for a latent may stack several."""
        assert isinstance(self.codec, PixelCodec)
        return self.codec.previous(latents)

    @cached_property
    def noising(self) -> Noising:
        """See `Backbone`."""
        return CleanResidual() if self.predicts == "clean_residual" else FlowVelocity()

    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,  # noqa: ARG002
    ) -> torch.Tensor:
        """See `Backbone`."""
        given = first.expand(-1, -1, noisy.shape[2], -1, -1)
        return transformer(
            hidden_states=torch.cat([noisy, given], dim=1), timestep=timestep, encoder_hidden_states=text.embeddings
        )


def stand_in_text(text_dim: int) -> T5Text:
    """A frozen, randomly initialised UMT5 encoder over bytes: distinct captions get distinct embeddings, no more.

    It is of the class that Wan uses and is never trained; it understands nothing. Equal for everyone, whatever the
    state of the global random generator.
    """
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=384, d_model=text_dim, d_kv=text_dim // 2, d_ff=text_dim * 2, num_layers=2, num_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_TEXT_SEED)
        encoder = UMT5EncoderModel(config).eval().requires_grad_(False)
    return _text(encoder, ByT5Tokenizer())


def stand_in_arguments(config: BackboneConfig) -> dict[str, Any]:
    """Arguments of `WanTransformer3DModel` for the configured shape."""
    channels = PixelCodec(config.temporal_stride).channels
    return {
        "patch_size": (1, config.patch_size, config.patch_size),
        "num_attention_heads": config.num_attention_heads,
        "attention_head_dim": config.attention_head_dim,
        "in_channels": 2 * channels,
        "out_channels": channels,
        "text_dim": config.text_dim,
        "freq_dim": 64,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "cross_attn_norm": True,
        "rope_max_seq_len": 64,
    }


def create_stand_in(config: BackboneConfig, seed: int) -> StandIn:
    """An untrained stand-in of the configured shape."""
    from diffusers import WanTransformer3DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(**stand_in_arguments(config))
    codec, text = PixelCodec(config.temporal_stride), stand_in_text(config.text_dim)
    return _assemble(transformer, text, codec, config.prediction, _SCHEDULER, "untrained stand-in")


def stand_in_on_meta(config: BackboneConfig) -> StandIn:
    """The same on torch's `meta` device: its shapes and counts, without weights and so without a fingerprint."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        transformer = WanTransformer3DModel(**stand_in_arguments(config))
    transformer.requires_grad_(False).eval()
    origin = "untrained stand-in"
    codec = PixelCodec(config.temporal_stride)
    return _assemble(transformer, lambda: stand_in_text(config.text_dim), codec, config.prediction, _SCHEDULER, origin)


def save_stand_in(backbone: StandIn, folder: Path) -> None:
    """Write transformer, text encoder and tokenizer in diffusers' layout, and `backbone.json` about them."""
    text = backbone.text
    assert isinstance(text, T5Text)
    transformer: Any = backbone.transformer
    transformer.save_pretrained(folder / "transformer")
    text.encoder_module.save_pretrained(folder / "text_encoder")
    text.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": _SCHEDULER_CLASS} | _SCHEDULER)
    current = fingerprint(backbone.transformer, backbone.predicts, backbone.codec_shape.temporal_stride)
    write_json(
        folder / DESCRIPTION_FILE,
        backbone.describe()
        | {
            "codec": "pixels",
            "origin": _TRAINED,
            "preconditioned": backbone.predicts == "clean_residual",
            "fingerprint": current,
        },
    )


def load_stand_in(folder: Path) -> StandIn:
    """Load what `save_stand_in` wrote.

    Raises:
        ConfigError: not a stand-in, or weights that are not the ones described.
    """
    from diffusers import WanTransformer3DModel

    description = read_description(folder)
    if description.get("codec") != "pixels":
        raise ConfigError(f"{folder} holds no stand-in backbone (backbone.json says {description or 'nothing'})")
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", local_files_only=True)
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler.pop("_class_name", None)

    def text() -> TextEncoder:
        from transformers import ByT5Tokenizer, UMT5EncoderModel

        encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", local_files_only=True)
        tokenizer = ByT5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        return _text(encoder.eval().requires_grad_(False), tokenizer)

    # Backbones saved before there were strides do not state one.
    codec = PixelCodec(description.get("temporal_stride", 1))
    # Not the folder: adapters write it down, and equal runs in two workspaces must give equal bytes.
    backbone = _assemble(transformer, text, codec, description["prediction"], scheduler, _TRAINED)
    if backbone.fingerprint != description["fingerprint"]:
        raise ConfigError(
            f"{folder}: weights have fingerprint {backbone.fingerprint[:16]}, backbone.json says "
            f"{description['fingerprint'][:16]}; the folder was altered: rerun `soundstage train backbone`"
        )
    return backbone


def fingerprint(transformer: torch.nn.Module, prediction: str, temporal_stride: int = 1) -> str:
    """Identity of a stand-in: its weights and what its output means."""
    settings: dict[str, Any] = {"family": WanBackbone.family, "prediction": prediction}
    if temporal_stride != 1:
        settings["temporal_stride"] = temporal_stride
    return weights_fingerprint(transformer, settings)


def _text(encoder: Any, tokenizer: Any) -> T5Text:
    return T5Text(encoder, tokenizer, _MAX_CAPTION_BYTES, padding="zeroed")


def _assemble(
    transformer: Any, text: Any, codec: PixelCodec, prediction: Any, scheduler: dict[str, Any], origin: str
) -> StandIn:
    """`text` is the encoder, or a function that loads it."""
    weightless = transformer.device.type == "meta"
    return StandIn(
        transformer=transformer,
        codec_shape=CodecShape(codec.channels, codec.temporal_stride, codec.spatial_stride),
        scheduler_class=_SCHEDULER_CLASS,
        scheduler_config=dict(scheduler),
        fingerprint="" if weightless else fingerprint(transformer, prediction, codec.temporal_stride),
        licence=LICENCE,
        origin=origin,
        stand_in=True,
        load_codec=lambda: codec,
        load_text=text if callable(text) else lambda: text,
        predicts=prediction,
    )

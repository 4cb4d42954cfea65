"""The Wan family: diffusers' `WanTransformer3DModel`.

Token layout: latents (F, h, w) in patches of (1, p, p), flattened frame by frame, so blocks put out
(B, F * (h/p) * (w/p), C). The codec is causal with stride 4: latent 0 is frame 0, latent i frames 4i-3 .. 4i. It
predicts velocity (flow matching).

First frame: the 5B model of Wan 2.2 was trained to be given a clean first latent whose tokens have timestep 0. The
text-only models of Wan 2.1 are given it in the same way, which they were not trained for: experimental, and the
low-rank update that adapts them counts in the budget.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import nn

from ...errors import ConfigError
from .base import Backbone, CodecShape, FirstFrameWay, Release, TextEmbedding, Transformer
from .codecs import VaeCodec
from .text import T5Text

NUM_TEXT_TOKENS = 512
_CODEC_21, _CODEC_22 = CodecShape(16, 4, 8), CodecShape(48, 4, 16)
_SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "num_train_timesteps": 1000,
}


def _release(
    name: str, revision: str, size: tuple[int, int], fps: int, frames: int, codec: CodecShape, **sizes: Any
) -> Release:
    shift = 5.0 if codec is _CODEC_22 else 3.0
    return Release(
        hub_id=f"Wan-AI/{name}-Diffusers",
        revision=revision,
        licence="Apache-2.0",
        native_fps=fps,
        native_frames=frames,
        native_size=size,
        transformer={"attention_head_dim": 128, "text_dim": 4096, **sizes},
        codec=codec,
        text=f"UMT5-XXL, width 4096, {NUM_TEXT_TOKENS} tokens",
        scheduler=_SCHEDULER | {"flow_shift": shift},
    )


class WanBackbone(Backbone):
    """Wan 2.1 text-to-video and Wan 2.2 text-and-image-to-video."""

    family = "wan"
    transformer_class = "WanTransformer3DModel"
    codec_class = "AutoencoderKLWan"
    releases: ClassVar[dict[str, Release]] = {
        "wan2.1-t2v-1.3b": _release(
            "Wan2.1-T2V-1.3B",
            "0fad780a534b6463e45facd96134c9f345acfa5b",
            (480, 832),
            16,
            81,
            _CODEC_21,
            num_attention_heads=12,
            num_layers=30,
            ffn_dim=8960,
        ),
        "wan2.1-t2v-14b": _release(
            "Wan2.1-T2V-14B",
            "38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
            (480, 832),
            16,
            81,
            _CODEC_21,
            num_attention_heads=40,
            num_layers=40,
            ffn_dim=13824,
        ),
        "wan2.2-ti2v-5b": _release(
            "Wan2.2-TI2V-5B",
            "b8fff7315c768468a5333511427288870b2e9635",
            (704, 1280),
            24,
            121,
            _CODEC_22,
            num_attention_heads=24,
            num_layers=30,
            ffn_dim=14336,
            in_channels=48,
            out_channels=48,
        ),
    }

    @staticmethod
    def read_codec_shape(config: dict[str, Any]) -> CodecShape:
        """Shape of an `AutoencoderKLWan` from its configuration."""
        return CodecShape(
            config.get("z_dim", 16), config.get("scale_factor_temporal", 4), config.get("scale_factor_spatial", 8)
        )

    @staticmethod
    def make_codec(vae: Any, shape: CodecShape) -> VaeCodec:
        """The codec around a loaded autoencoder."""
        mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
        return VaeCodec(vae, (shape.channels, shape.temporal_stride, shape.spatial_stride), mean, 1.0 / std)

    @staticmethod
    def make_text(encoder: Any, tokenizer: Any, shape: CodecShape) -> T5Text:  # noqa: ARG004
        """The text encoder as `WanPipeline` runs it."""
        return T5Text(encoder, tokenizer, NUM_TEXT_TOKENS, padding="zeroed", cleaned=True)

    def check(self) -> None:
        """Refuse members of the family that need inputs we do not give.

        Raises:
            ConfigError: an image-to-video checkpoint of Wan 2.1.
        """
        config: Any = self.transformer.config
        if not self.stand_in and (config.in_channels != self.codec_shape.channels or config.image_dim):
            raise ConfigError(
                f"{self.origin}: its transformer takes {config.in_channels} channels over a codec of "
                f"{self.codec_shape.channels}, as Wan's image-to-video checkpoints with a CLIP picture do; supported "
                f"are {', '.join(release.hub_id for release in self.releases.values())}"
            )

    @property
    def blocks(self) -> nn.ModuleList:
        """See `Backbone`."""
        transformer: Any = self.transformer
        return cast(nn.ModuleList, transformer.blocks)

    @property
    def spatial_patch(self) -> int:
        """See `Backbone`."""
        config: Any = self.transformer.config
        return int(config.patch_size[1])

    @property
    def first_frame(self) -> FirstFrameWay:
        """See `Backbone`."""
        return "clean_latent"

    @property
    def first_frame_native(self) -> bool:
        """Wan 2.2's codec of 48 channels comes with the model that was trained on clean first latents."""
        return self.codec_shape.channels == _CODEC_22.channels

    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,  # noqa: ARG002 -- Wan knows frames, not seconds
    ) -> torch.Tensor:
        """See `Backbone`."""
        _, _, frames, height, width = noisy.shape
        tokens = (height // self.spatial_patch) * (width // self.spatial_patch)
        return transformer(
            hidden_states=self.with_first(noisy, first),
            timestep=self.token_timesteps(timestep, tokens, frames),
            encoder_hidden_states=text.embeddings,
        )

"""The LTX-Video family: diffusers' `LTXVideoTransformer3DModel`.

Token layout: every latent pixel is a token, frame by frame: (B, F * h * w, C). The codec is causal with stride 8:
latent 0 is frame 0, latent i frames 8i-7 .. 8i; it packs 32 x 32 pixels. It predicts velocity (flow matching), and
rotary positions are in seconds, so it must be told the frame rate.

First frame, native: a clean first latent whose tokens have timestep 0. Checkpoints up to 0.9.1 are run as
`LTXImageToVideoPipeline` runs them, those from 0.9.5 on as `LTXConditionPipeline` does, without its noise on the given
frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from ...errors import ConfigError
from .base import Backbone, CodecShape, FirstFrameWay, Release, TextEmbedding, Transformer
from .codecs import VaeCodec
from .text import T5Text

NUM_TEXT_TOKENS, NUM_TEXT_TOKENS_095 = 128, 256
# What the decoder of autoencoders from 0.9.1 on is told of the latents' noise, as in the pipeline's own example.
_DECODE_TIMESTEP = 0.05
_BLOCK_095 = "LTXVideo095DownBlock3D"


@dataclass(frozen=True)
class LtxCodecShape(CodecShape):
    """Shape of an `AutoencoderKLLTXVideo`, which also tells one generation of the family from another.

    since_095: its encoder is that of 0.9.5 and later. The transformers that go with it place a latent at the first of
    its frames, earlier ones at the last; they read longer captions and are sampled on a linear-quadratic schedule.
    Nothing in the transformer's own files says so.
    """

    since_095: bool = False


class LtxBackbone(Backbone):
    """LTX-Video 2B."""

    family = "ltx"
    transformer_class = "LTXVideoTransformer3DModel"
    codec_class = "AutoencoderKLLTXVideo"
    releases: ClassVar[dict[str, Release]] = {
        "ltx-video-2b": Release(
            hub_id="Lightricks/LTX-Video-0.9.5",
            revision="e58e28c39631af4d1468ee57a853764e11c1d37e",
            licence="LTX-Video-OpenRAIL-M",
            native_fps=25,
            native_frames=161,
            native_size=(512, 704),
            transformer={},
            codec=LtxCodecShape(128, 8, 32, since_095=True),
            text=f"T5-XXL v1.1, width 4096, {NUM_TEXT_TOKENS_095} tokens",
            scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000},
        ),
    }

    @staticmethod
    def read_codec_shape(config: dict[str, Any]) -> CodecShape:
        """Shape of an `AutoencoderKLLTXVideo` from its configuration: two per scaling stage, times the patch."""
        doublings = 2 ** sum(config.get("spatio_temporal_scaling", (True, True, True, False)))
        return LtxCodecShape(
            config.get("latent_channels", 128),
            config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * doublings,
            config.get("spatial_compression_ratio") or config.get("patch_size", 4) * doublings,
            since_095=_BLOCK_095 in config.get("down_block_types", ()),
        )

    @staticmethod
    def make_codec(vae: Any, shape: CodecShape) -> VaeCodec:
        """The codec around a loaded autoencoder."""
        told = _DECODE_TIMESTEP if vae.config.timestep_conditioning else None
        strides = (shape.channels, shape.temporal_stride, shape.spatial_stride)
        return VaeCodec(vae, strides, vae.latents_mean, vae.config.scaling_factor / vae.latents_std, told)

    @staticmethod
    def make_text(encoder: Any, tokenizer: Any, shape: CodecShape) -> T5Text:
        """The text encoder as the generation's pipeline runs it."""
        if _since_095(shape):
            return T5Text(encoder, tokenizer, NUM_TEXT_TOKENS_095, padding="ignored")
        return T5Text(encoder, tokenizer, NUM_TEXT_TOKENS, padding="encoded")

    def check(self) -> None:
        """Refuse members of the family that nobody has published.

        Raises:
            ConfigError: patches of several latent pixels.
        """
        config: Any = self.transformer.config
        if (config.patch_size, config.patch_size_t) != (1, 1):
            raise ConfigError(
                f"{self.origin}: patches of {config.patch_size_t} x {config.patch_size} x {config.patch_size} latent "
                "pixels; every published LTX-Video checkpoint has 1 x 1 x 1, which is what is supported"
            )

    @property
    def blocks(self) -> nn.ModuleList:
        """See `Backbone`."""
        transformer: Any = self.transformer
        return cast(nn.ModuleList, transformer.transformer_blocks)

    @property
    def spatial_patch(self) -> int:
        """See `Backbone`."""
        return 1

    @property
    def first_frame(self) -> FirstFrameWay:
        """See `Backbone`."""
        return "clean_latent"

    @property
    def first_frame_native(self) -> bool:
        """See `Backbone`."""
        return True

    def set_timesteps(self, scheduler: Any, num_inference_steps: int, num_tokens: int) -> None:
        """Evenly spaced levels, shifted the more the longer the video is; from 0.9.5 on, the linear-quadratic ones."""
        from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
        from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

        config = scheduler.config
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        if _since_095(self.codec_shape):
            sigmas = linear_quadratic_schedule(num_inference_steps).numpy()
        shift = None
        if config.get("use_dynamic_shifting"):
            limits = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
            shift = calculate_shift(num_tokens, *(config[name] for name in limits))
        scheduler.set_timesteps(sigmas=sigmas, mu=shift)

    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,
    ) -> torch.Tensor:
        """See `Backbone`."""
        _, _, frames, height, width = noisy.shape
        packed = self.with_first(noisy, first).flatten(2).transpose(1, 2)
        output = transformer(
            hidden_states=packed,
            encoder_hidden_states=text.embeddings,
            timestep=self.token_timesteps(timestep, height * width, frames),
            encoder_attention_mask=text.mask.long(),
            video_coords=self._places(noisy, fps).expand(len(noisy), -1, -1),
        )
        return output.transpose(1, 2).unflatten(2, (frames, height, width))

    def _places(self, latents: torch.Tensor, fps: float) -> torch.Tensor:
        """Where each token lies, (1, 3, F * h * w): seconds, then pixels down and across."""
        shape = self.codec_shape
        steps = (shape.temporal_stride, shape.spatial_stride, shape.spatial_stride)
        frame, row, column = (
            torch.arange(count, device=latents.device) * step
            for count, step in zip(latents.shape[2:], steps, strict=True)
        )
        if _since_095(self.codec_shape):
            frame = (frame - (shape.temporal_stride - 1)).clamp(min=0)
        return torch.stack(torch.meshgrid(frame / fps, row.float(), column.float(), indexing="ij")).flatten(1)[None]


def _since_095(shape: CodecShape) -> bool:
    return isinstance(shape, LtxCodecShape) and shape.since_095

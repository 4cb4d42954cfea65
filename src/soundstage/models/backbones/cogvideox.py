"""The CogVideoX family: diffusers' `CogVideoXTransformer3DModel`, generation 1.0.

Token layout: latents (F, h, w) in patches of (1, 2, 2), frame by frame; a block's output is a pair whose first part is
(B, F * (h/2) * (w/2), C), the second being the caption's. It predicts v (variance-preserving diffusion). The codec has
stride 4 and is nearly causal: its convolutions are, its group norms look over a chunk of 8 frames.

First frame: the image-to-video model is given it as extra channels, clean on the first latent frame and zero after. The
text-only models are given a clean first latent; their timestep is one for all tokens, so they cannot be told which
latent is clean: experimental, and the low-rank update that adapts them counts in the budget.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import nn

from ...errors import ConfigError
from .base import Backbone, CodecShape, FirstFrameWay, Release, TextEmbedding, Transformer
from .codecs import VaeCodec
from .text import T5Text

NUM_TEXT_TOKENS = 226
_CODEC = CodecShape(16, 4, 8)
_ROTARY = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
_SCHEDULER = {
    "_class_name": "CogVideoXDDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "timestep_spacing": "trailing",
}


def _release(name: str, revision: str, licence: str, snr_shift_scale: float, **sizes: Any) -> Release:
    return Release(
        hub_id=f"zai-org/{name}",
        revision=revision,
        licence=licence,
        native_fps=8,
        native_frames=49,
        native_size=(480, 720),
        transformer=sizes,
        codec=_CODEC,
        text=f"T5-XXL v1.1, width 4096, {NUM_TEXT_TOKENS} tokens",
        scheduler=_SCHEDULER | {"snr_shift_scale": snr_shift_scale},
    )


class CogVideoXBackbone(Backbone):
    """CogVideoX 2B, 5B and 5B image-to-video."""

    family = "cogvideox"
    transformer_class = "CogVideoXTransformer3DModel"
    codec_class = "AutoencoderKLCogVideoX"
    releases: ClassVar[dict[str, Release]] = {
        "cogvideox-2b": _release("CogVideoX-2b", "1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01", "Apache-2.0", 3.0),
        "cogvideox-5b": _release(
            "CogVideoX-5b", "8fc5b281006c82b82d34fd2543d2f0ebb4e7e321", "CogVideoX-License", 1.0, **_ROTARY
        ),
        "cogvideox-5b-i2v": _release(
            "CogVideoX-5b-I2V",
            "a6f0f4858a8395e7429d82493864ce92bf73af11",
            "CogVideoX-License",
            1.0,
            in_channels=32,
            use_learned_positional_embeddings=True,
            **_ROTARY,
        ),
    }

    @staticmethod
    def read_codec_shape(config: dict[str, Any]) -> CodecShape:
        """Shape of an `AutoencoderKLCogVideoX` from its configuration: the picture is halved between its stages."""
        return CodecShape(
            config.get("latent_channels", 16),
            int(config.get("temporal_compression_ratio", 4)),
            2 ** (len(config.get("block_out_channels", (128, 256, 256, 512))) - 1),
        )

    @staticmethod
    def make_codec(vae: Any, shape: CodecShape) -> VaeCodec:
        """The codec around a loaded autoencoder.

        Raises:
            ConfigError: that of CogVideoX 1.5, whose given frame is scaled otherwise than its clean latents.
        """
        if vae.config.invert_scale_latents:
            raise ConfigError(
                "an AutoencoderKLCogVideoX with invert_scale_latents, as in CogVideoX 1.5; supported is generation 1.0"
            )
        strides = (shape.channels, shape.temporal_stride, shape.spatial_stride)
        return VaeCodec(vae, strides, torch.zeros(1), torch.tensor([vae.config.scaling_factor]), first_apart=True)

    @staticmethod
    def make_text(encoder: Any, tokenizer: Any, shape: CodecShape) -> T5Text:  # noqa: ARG004
        """The text encoder as `CogVideoXPipeline` runs it."""
        return T5Text(encoder, tokenizer, NUM_TEXT_TOKENS, padding="encoded")

    def check(self) -> None:
        """Refuse members of the family that are laid out otherwise.

        Raises:
            ConfigError: generation 1.5, or channels that are neither text-only nor image-to-video.
        """
        config: Any = self.transformer.config
        if config.patch_size_t is not None or config.ofs_embed_dim is not None:
            raise ConfigError(
                f"{self.origin}: patches of {config.patch_size_t} latent frames, as in CogVideoX 1.5; supported are "
                f"{', '.join(release.hub_id for release in self.releases.values())}"
            )
        if config.in_channels not in (self.codec_shape.channels, 2 * self.codec_shape.channels):
            raise ConfigError(
                f"{self.origin}: its transformer takes {config.in_channels} channels; over a codec of "
                f"{self.codec_shape.channels} that should be as many, or twice as many for image-to-video"
            )

    @property
    def blocks(self) -> nn.ModuleList:
        """See `Backbone`."""
        transformer: Any = self.transformer
        return cast(nn.ModuleList, transformer.transformer_blocks)

    @property
    def spatial_patch(self) -> int:
        """See `Backbone`."""
        config: Any = self.transformer.config
        return int(config.patch_size)

    @property
    def first_frame(self) -> FirstFrameWay:
        """See `Backbone`."""
        config: Any = self.transformer.config
        return "channels" if config.in_channels > self.codec_shape.channels else "clean_latent"

    @property
    def first_frame_native(self) -> bool:
        """See `Backbone`."""
        return self.first_frame == "channels"

    def check_window(self, num_frames: int, height: int, width: int) -> int:
        """See `Backbone`; learned positions hold for one picture size and length only.

        At another length diffusers' class puts sines in their place, which the checkpoint was not trained with.
        """
        config: Any = self.transformer.config
        stride = self.codec_shape.spatial_stride
        only = (config.sample_height * stride, config.sample_width * stride)
        if config.use_learned_positional_embeddings and (height, width) != only:
            raise ConfigError(
                f"window {height} x {width}: {self.origin} has learned its positions at {only[0]} x {only[1]}; set "
                f"window.size={only[0]} and window.width={only[1]}"
            )
        if config.use_learned_positional_embeddings and num_frames != config.sample_frames:
            raise ConfigError(
                f"window.num_frames={num_frames}: {self.origin} has learned its positions for {config.sample_frames} "
                f"frames, at other lengths they would be lost; set window.num_frames={config.sample_frames}"
            )
        return super().check_window(num_frames, height, width)

    def predict(
        self,
        transformer: Transformer,
        noisy: torch.Tensor,
        first: torch.Tensor,
        timestep: torch.Tensor,
        text: TextEmbedding,
        fps: float,  # noqa: ARG002 -- CogVideoX knows frames, not seconds
    ) -> torch.Tensor:
        """See `Backbone`."""
        given = self.with_first(noisy, first)
        if self.first_frame == "channels":
            image = torch.zeros_like(noisy)
            image[:, :, :1] = first
            given = torch.cat([noisy, image], dim=1)
        output = transformer(
            hidden_states=given.transpose(1, 2),
            encoder_hidden_states=text.embeddings,
            timestep=timestep,
            image_rotary_emb=self._rotary(noisy),
        )
        return output.transpose(1, 2)

    def _rotary(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rotary positions as `CogVideoXPipeline` makes them: the grid is fitted into that of training."""
        from diffusers.models.embeddings import get_3d_rotary_pos_embed
        from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

        config: Any = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        patch = self.spatial_patch
        grid = (latents.shape[3] // patch, latents.shape[4] // patch)
        crops = get_resize_crop_region_for_grid(grid, config.sample_width // patch, config.sample_height // patch)
        cosine, sine = get_3d_rotary_pos_embed(
            embed_dim=config.attention_head_dim,
            crops_coords=crops,
            grid_size=grid,
            temporal_size=latents.shape[2],
            device=latents.device,
        )
        return cosine, sine

"""Shapes of one encoded sample, from the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..config import SoundstageConfig
from ..models.audio.base import FeatureGrid
from ..models.backbones import cogvideox, ltx, wan
from ..models.backbones.base import Backbone
from ..models.info import MetaModel

# A member of a tar is rounded up to blocks and has a header; its time, which is no whole number, two blocks more.
_TAR_BLOCK, _TAR_HEADERS, _NPY_HEADER = 512, 3 * 512, 128
# The description of a sample, a caption of some length in it.
_ABOUT = 400
_HALF, _SINGLE = 2, 4


@dataclass(frozen=True)
class SampleShape:
    """latents: (C, F, h, w). audio: (T, D) by encoder. text: tokens and width of a caption's embedding."""

    latents: tuple[int, int, int, int]
    audio: dict[str, tuple[int, int]]
    text: tuple[int, int]
    text_halved: bool = False
    """the text encoder runs in half precision, and so its embeddings are stored"""

    @property
    def shard_bytes(self) -> int:
        """Bytes of the sample in its tar: latents and audio in half precision, and a description."""
        arrays = [_NPY_HEADER + _HALF * prod(shape) for shape in (self.latents, *self.audio.values())]
        return sum(_TAR_HEADERS + -(-size // _TAR_BLOCK) * _TAR_BLOCK for size in [*arrays, _ABOUT])

    @property
    def caption_bytes(self) -> int:
        """Bytes of a distinct caption's embedding where it fills all tokens: an upper bound, for zeros are left out."""
        tokens, width = self.text
        return tokens * (_HALF if self.text_halved else _SINGLE) * width


def sample_shape(config: SoundstageConfig, model: MetaModel) -> SampleShape:
    """Shapes of a window of `config`.

    Raises:
        ConfigError: a window that the backbone does not take.
    """
    window, backbone = config.window, model.backbone
    height, width = window.frame_size
    frames = backbone.check_window(window.num_frames, height, width)
    side = backbone.codec_shape.spatial_stride
    seconds = float(window.duration_sec) + 2 * window.audio_margin_sec
    return SampleShape(
        latents=(backbone.codec_shape.channels, frames, height // side, width // side),
        audio={name: (_count(grid, seconds), grid.dim) for name, grid in model.adapters.grids.items()},
        text=text_shape(backbone),
        text_halved=config.model.backbone.dtype == "bf16" and not backbone.stand_in,
    )


def _count(grid: FeatureGrid, seconds: float) -> int:
    # Features whose time stamp lies within the sound, as encoders put them out.
    return max(1, int((seconds - grid.first_sec) / grid.hop_sec + 1e-6) + 1)


def text_shape(backbone: Backbone) -> tuple[int, int]:
    """Tokens of a caption, padded, and their width."""
    if backbone.stand_in:
        _, tokens, width = backbone.text.encode([""]).embeddings.shape
        return tokens, width
    config = dict(backbone.transformer.config)  # type: ignore[arg-type]
    if isinstance(backbone, wan.WanBackbone):
        return wan.NUM_TEXT_TOKENS, int(config["text_dim"])
    if isinstance(backbone, cogvideox.CogVideoXBackbone):
        return cogvideox.NUM_TEXT_TOKENS, int(config["text_embed_dim"])
    shape = backbone.codec_shape
    later = isinstance(shape, ltx.LtxCodecShape) and shape.since_095
    return ltx.NUM_TEXT_TOKENS_095 if later else ltx.NUM_TEXT_TOKENS, int(config["caption_channels"])

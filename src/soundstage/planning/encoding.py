"""What the encode stage takes: memory of a worker, hours of all workers, and what lies on disk afterwards.

Text encoder, video autoencoder and audio encoders run here and nowhere else; a training process holds none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ..config import SoundstageConfig
from ..config.tree import WindowConfig
from ..models.backbones import cogvideox, wan
from ..models.backbones.base import Backbone
from ..models.info import MetaModel
from .calibration import Calibration, Gpu
from .figures import GIB, Figure, gib
from .kernels import Kernels
from .ledger import LiveBytes
from .shapes import SampleShape, text_shape
from .step import give_shape

_SINGLE, _HALF = 4, 2
_TERA = 1e12
# A row of samples.parquet with its two hashes, as `benchmarks/scale.py` measures it.
_ROW_BYTES = 102


class CodecCount(NamedTuple):
    """weights: bytes in float32. peak: bytes held beyond them while a window is encoded. flop: of a window."""

    weights: int
    peak: int
    flop: int


@dataclass(frozen=True)
class Storage:
    """Counts and bytes of an encode payload."""

    samples: int
    shards: int
    sample_bytes: int
    shard_bytes: int
    text_bytes: int
    index_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.samples * self.sample_bytes + self.text_bytes + self.index_bytes


def storage(config: SoundstageConfig, sample: SampleShape, clips: int) -> Storage:
    """Of `clips` training clips, each with its full number of windows and a caption of its own."""
    samples = clips * config.encode.windows_per_clip
    per_shard = config.encode.samples_per_shard
    return Storage(
        samples=samples,
        shards=-(-samples // per_shard),
        sample_bytes=sample.shard_bytes,
        shard_bytes=per_shard * sample.shard_bytes,
        text_bytes=clips * sample.caption_bytes,
        index_bytes=samples * _ROW_BYTES,
    )


def codec_on_meta(backbone: Backbone) -> Any | None:
    """The backbone's autoencoder without weights, where diffusers' defaults are the release's; else None."""
    import diffusers

    if backbone.stand_in:
        return None
    first_wan = isinstance(backbone, wan.WanBackbone) and backbone.codec_shape.channels == 16
    if not first_wan and not isinstance(backbone, cogvideox.CogVideoXBackbone):
        return None
    with torch.device("meta"):
        return getattr(diffusers, backbone.codec_class)().eval()


def count_codec(codec: Any, window: WindowConfig) -> CodecCount:
    """Encode one window with an autoencoder without weights, in float32 as the stage does."""
    weights = sum(_SINGLE * each.numel() for each in codec.parameters())
    height, width = window.frame_size
    with FakeTensorMode(allow_non_fake_inputs=True), Kernels("cuda"), torch.no_grad():
        give_shape(codec, torch.float32)
        pixels = torch.empty(1, 3, window.num_frames, height, width)
        with LiveBytes(codec.parameters()) as live:
            codec.encode(pixels).latent_dist.mode()
    return CodecCount(weights, live.peak, live.flop)


def encode_plan(
    config: SoundstageConfig, model: MetaModel, clips: int, gpus: int, gpu: Gpu, calibration: Calibration
) -> dict[str, dict[str, Figure]]:
    """Memory of a worker and hours of the stage."""
    family, backbone = config.model.backbone.family, model.backbone
    codec = codec_on_meta(backbone)
    count = None if codec is None else count_codec(codec, config.window)
    windows = clips * config.encode.windows_per_clip
    memory = {"audio encoders": gib(_SINGLE * calibration.audio_parameters, "assumed")}
    seconds = windows * calibration.window_seconds
    if not backbone.stand_in:
        half = _HALF if config.model.backbone.dtype == "bf16" else _SINGLE
        parameters = calibration.text_parameters[family]
        memory["text encoder"] = gib(half * parameters, "assumed")
        # Two operations a weight and token, once per distinct caption; tokens are padded to the full length.
        tokens = 2 * parameters * text_shape(backbone)[0] * clips
        seconds += tokens / (gpu.bf16_tflops * _TERA * calibration.achieved_training)
        if count is None:
            memory["video autoencoder"] = gib(_SINGLE * calibration.codec_parameters[family], "assumed")
        else:
            memory["video autoencoder"] = gib(count.weights)
            memory["a window in it"] = gib(count.peak)
            seconds += windows * count.flop / (gpu.fp32_tflops * _TERA * calibration.achieved_encoding)
    workers = gpus * calibration.encode_workers_per_gpu
    needed = sum(each.value for each in memory.values()) * GIB
    return {
        "memory": memory | {"all": gib(needed, "assumed")},
        "time": {
            "workers": Figure(workers, "", "assumed"),
            "hours": Figure(seconds / workers / 3600, "h", "assumed"),
        },
    }

"""Small shards by encode's own writer, from synthetic arrays, jobs over them, and transformers without a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundstage.config import load_config, stage_slice
from soundstage.config.slices import TrainSlice
from soundstage.data.shards import EncodedSample, ShardReader
from soundstage.data.windows import bucket_name
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone, CodecShape
from soundstage.models.backbones.load import FAMILIES, encode_captions, encoder_fingerprints, encoders, new_backbone
from soundstage.models.backbones.stand_in import save_stand_in
from soundstage.training.job import TrainingJob

from ..data.sharding import write_payload

CAPTIONS = ["", "a lamp flashes", "a bird flaps"]
PER_SHARD = 6


def train_slice(*overrides: str, stage: str = "pretrain") -> TrainSlice:
    """The micro preset's slice of a training stage, changed by overrides."""
    found = stage_slice(stage, load_config("micro", overrides=overrides))
    assert isinstance(found, TrainSlice)
    return found


def encoded_sample(config: TrainSlice, number: int, use: str, poisoned: bool = False) -> EncodedSample:
    """A bar that jumps at a random frame, and features with a bump at that time; NaN latents when poisoned."""
    window, rng = config.window, np.random.default_rng([5, number])
    moved = int(rng.integers(1, window.num_frames))
    latents = np.full((3, window.num_frames, window.size, window.size), -0.5, np.float32)
    latents[:, :moved, :, : window.size // 2] = rng.uniform(0, 1)
    latents[:, moved:, :, window.size // 2 :] = 0.8
    audio = {}
    for name, grid in feature_grids(config.model.audio).items():
        count = round((float(window.duration_sec) + 2 * window.audio_margin_sec) / grid.hop_sec) + 1
        times = grid.times_sec(count, -window.audio_margin_sec).double().numpy()
        # As wide as a hop at least, else a coarse encoder hears nothing of it.
        bump = np.exp(-(((times - moved / window.fps) / max(0.03, grid.hop_sec)) ** 2))
        audio[name] = (bump[:, None] * np.ones(grid.dim) - 0.5).astype(np.float16)
    about: dict[str, Any] = {"key": f"{number:032x}", "clip_id": f"clip{number:02d}", "use": use, "weight": 1.0}
    about |= {"caption": CAPTIONS[1 + number % 2], "window_start_us": 0, "flip": False}
    about["bucket"] = bucket_name(window)
    latents = np.where(poisoned, np.float32("nan"), latents)
    return EncodedSample(about["key"], latents.astype(np.float16), audio, about)


def write_shards(
    folder: Path,
    config: TrainSlice,
    count: int,
    poisoned: int = -1,
    validation: int = 2,
    weights: Mapping[int, float] | None = None,
    finetune: int = 0,
    others: Sequence[TrainSlice] = (),
) -> None:
    """An encode payload of `count` samples that pretrain, weighing 1 or what is told by number, and some held out.

    Their windows are those of `config` and of `others` in turn.
    """
    uses = ["pretrain"] * count + ["validation"] * validation + ["finetune"] * finetune
    windows = [config, *others]
    made = [encoded_sample(windows[n % len(windows)], n, use, n == poisoned) for n, use in enumerate(uses)]
    for number, weight in (weights or {}).items():
        made[number].about["weight"] = weight
    grids = {name: asdict(grid) for name, grid in feature_grids(config.model.audio).items()}
    buckets = {bucket_name(each.window): each.window.model_dump(mode="json") for each in windows}
    about = {"fingerprints": fingerprints(config), "grids": grids, "buckets": buckets}
    embedded = encode_captions(encoders(config.model.backbone)[1], CAPTIONS)
    write_payload(folder, made, PER_SHARD, CAPTIONS, embedded, about)


def reader_of(folder: Path, config: TrainSlice, use: str = "pretrain") -> ShardReader:
    """The samples of a use."""
    return ShardReader(folder, fingerprints(config), {use})


def fingerprints(config: TrainSlice) -> dict[str, str]:
    """Identity of the configured encoders."""
    return encoder_fingerprints(config.model.backbone, config.model.audio)


def write_backbone(folder: Path, config: TrainSlice) -> None:
    """An untrained stand-in on disk."""
    save_stand_in(new_backbone(config.model.backbone, 0), folder)


def bare_backbone(family: str) -> Backbone:
    """A tiny random transformer of a pretrained family, 4 latent channels, with no codec or text encoder to load."""
    import diffusers

    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4}
    kinds: dict[str, tuple[str, dict[str, Any], int, str, dict[str, Any]]] = {
        "wan": (
            "WanTransformer3DModel",
            {"text_dim": 16, "freq_dim": 32, "ffn_dim": 64, "rope_max_seq_len": 32},
            4,
            "UniPCMultistepScheduler",
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
        ),
        "ltx": (
            "LTXVideoTransformer3DModel",
            {"cross_attention_dim": 32, "caption_channels": 16},
            8,
            "FlowMatchEulerDiscreteScheduler",
            {},
        ),
        "cogvideox": (
            "CogVideoXTransformer3DModel",
            {
                "text_embed_dim": 16,
                "max_text_seq_length": 48,
                "sample_width": 8,
                "sample_height": 8,
                "sample_frames": 9,
            },
            4,
            "CogVideoXDDIMScheduler",
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        ),
    }
    kind, arguments, stride, scheduler, settings = kinds[family]
    torch.manual_seed(0)
    return FAMILIES[family](
        transformer=getattr(diffusers, kind)(num_layers=2, **sizes, **arguments).eval(),
        codec_shape=CodecShape(channels=4, temporal_stride=stride, spatial_stride=8),
        scheduler_class=scheduler,
        scheduler_config=settings,
        fingerprint=family,
        licence="none",
        origin="random",
        load_codec=_nothing_to_load,
        load_text=_nothing_to_load,
    )


def _nothing_to_load() -> Any:
    raise AssertionError("training loads neither codec nor text encoder")


def job_in(root: Path, config: TrainSlice, shards: Path, backbone: Path | None) -> TrainingJob:
    """A job whose outputs and scratch lie below `root`."""
    (root / "out").mkdir(parents=True, exist_ok=True)
    return TrainingJob(
        stage="pretrain" if backbone else "backbone",
        config=config,
        shards=shards,
        use="pretrain",
        backbone=backbone,
        initial_adapter=None,
        out=root / "out",
        scratch=root / "scratch",
    )


def all_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], atol: float) -> bool:
    """Whether two state dicts agree."""
    return first.keys() == second.keys() and all(torch.allclose(first[k], second[k], atol=atol) for k in first)

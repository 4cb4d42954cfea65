"""Small shards by encode's own writer, from synthetic arrays, and jobs over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundstage.config import load_config, stage_slice
from soundstage.config.slices import TrainSlice
from soundstage.data.records import SHARD_SAMPLES, write_table
from soundstage.data.shards import EncodedSample, ShardReader, locate_samples, write_index, write_shard, write_text
from soundstage.models.backbones.load import encode_captions, encoder_fingerprints, encoders, new_backbone
from soundstage.models.backbones.wan import save_stand_in
from soundstage.training.job import TrainingJob

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
    hop = config.model.audio.hop_length / config.model.audio.sample_rate
    times = np.arange(round((float(window.duration_sec) + 2 * window.audio_margin_sec) / hop) + 1) * hop
    bump = np.exp(-(((times - window.audio_margin_sec - moved / window.fps) / 0.03) ** 2))
    audio = bump[:, None] * np.ones(config.model.audio.num_mel_bins + 1) - 0.5
    about: dict[str, Any] = {"key": f"{number:032x}", "clip_id": f"clip{number:02d}", "use": use, "weight": 1.0}
    about |= {"caption": CAPTIONS[1 + number % 2], "window_start_us": 0, "flip": False}
    latents = np.where(poisoned, np.float32("nan"), latents)
    return EncodedSample(about["key"], latents.astype(np.float16), audio.astype(np.float16), about)


def write_shards(folder: Path, config: TrainSlice, count: int, poisoned: int = -1, validation: int = 2) -> None:
    """An encode payload of `count` samples that pretrain, and a few for validation."""
    uses = ["pretrain"] * count + ["validation"] * validation
    made = [encoded_sample(config, n, use, n == poisoned) for n, use in enumerate(uses)]
    paths, rows, counts = [], [], {}
    for first in range(0, len(made), PER_SHARD):
        path, batch = folder / "shards" / f"{len(paths):06d}.tar", made[first : first + PER_SHARD]
        write_shard(path, batch)
        spans = locate_samples(path)
        paths.append(path)
        counts[path.name] = len(batch)
        for item in batch:
            offset, size = spans[item.key]
            rows.append(item.about | {"shard": f"shards/{path.name}", "offset": offset, "size": size})
    write_table(folder / "samples.parquet", SHARD_SAMPLES, rows, ["key"])
    write_text(folder / "text.safetensors", encode_captions(encoders(config.model)[1], CAPTIONS))
    about = {"captions": CAPTIONS, "fingerprints": encoder_fingerprints(config.model)}
    write_index(folder, paths, counts, about)


def reader_of(folder: Path, config: TrainSlice) -> ShardReader:
    """The samples that pretrain."""
    return ShardReader(folder, encoder_fingerprints(config.model), {"pretrain"})


def write_backbone(folder: Path, config: TrainSlice) -> None:
    """An untrained stand-in on disk."""
    save_stand_in(new_backbone(config.model.backbone, 0), folder)


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

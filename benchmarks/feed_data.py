"""What the feed's benchmark reads: shards as encode writes them and clips as ingest does, of made-up content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundstage.config.tree import WindowConfig
from soundstage.data.buckets import bucket_name
from soundstage.data.records import SHARD_SAMPLES, write_table
from soundstage.data.shards import (
    SAMPLES_FILE,
    SHARDS_FOLDER,
    TEXT_FILE,
    EncodedSample,
    ShardReader,
    shard_entry,
    shard_rows,
    write_index,
    write_shard,
    write_text,
)
from soundstage.media.encode import write_video

WINDOW = WindowConfig(num_frames=17, fps=16, size=320, width=480, audio_margin_sec=0.5)
# Latents of that window at Wan 2.1's strides of 4 and 8, and a log-mel of 65 bands every 10 ms: 412 KB in half floats.
LATENTS, MEL = (16, 5, 40, 60), (207, 65)
CLIP_SEC, CLIP_FPS, SAMPLE_RATE = 2, 24, 16000
_PER_SHARD = 256
_USE = "pretrain"


def write_samples(folder: Path, count: int, latents: tuple[int, ...] = LATENTS) -> None:
    """An encode payload of `count` samples of random numbers, unless one is there."""
    if (folder / "index.json").exists():
        return
    shards, rows = [], []
    for first in range(0, count, _PER_SHARD):
        path = folder / SHARDS_FOLDER / f"{len(shards):06d}.tar"
        batch = [_sample(number, latents) for number in range(first, min(first + _PER_SHARD, count))]
        write_shard(path, batch)
        written = shard_rows(path, batch)
        shards.append(shard_entry(path, written))
        rows += written
    write_table(folder / SAMPLES_FILE, SHARD_SAMPLES, rows, ["key"])
    write_text(folder / TEXT_FILE, torch.randn(2, 64, 256), torch.ones(2, 64, dtype=torch.bool))
    buckets = {bucket_name(WINDOW): WINDOW.model_dump(mode="json")}
    write_index(folder, shards, {"captions": ["", "a lamp"], "fingerprints": {}, "buckets": buckets})


def _sample(number: int, shape: tuple[int, ...]) -> EncodedSample:
    rng = np.random.default_rng(number)
    # As keys are: in no relation to the order of clips.
    key = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    about: dict[str, Any] = {"key": key, "clip_id": f"clip{number}", "use": _USE, "caption": "a lamp", "weight": 1.0}
    about |= {"window_start_us": 0, "flip": False, "bucket": bucket_name(WINDOW)}
    latents, mel = (rng.standard_normal(size, dtype=np.float32).astype(np.float16) for size in (shape, MEL))
    return EncodedSample(key, latents, {"mel": mel}, about)


def reader_of(folder: Path) -> ShardReader:
    """Opens what `write_samples` wrote."""
    return ShardReader(folder, {}, {_USE})


def write_clips(folder: Path, count: int) -> None:
    """Clips of 2 s at 24 frames a second in the window's own size, H.264 and AAC, unless they are there."""
    for number in range(count):
        path = folder / f"{number:05d}.mp4"
        if not path.exists():
            sound = 0.1 * np.random.default_rng(number).standard_normal(CLIP_SEC * SAMPLE_RATE).astype(np.float32)
            write_video(path, np.stack(list(_pictures(number))), CLIP_FPS, sound, SAMPLE_RATE)


def _pictures(number: int) -> Iterator[NDArray[np.uint8]]:
    """A smooth texture that drifts under a little grain, as a camera sees."""
    rng, (height, width) = np.random.default_rng(number), WINDOW.frame_size
    coarse = torch.from_numpy(rng.random((1, 3, 24, 32), dtype=np.float32))
    wide = torch.nn.functional.interpolate(coarse, (height, width + 4 * CLIP_SEC * CLIP_FPS), mode="bicubic")[0]
    for frame in range(CLIP_SEC * CLIP_FPS):
        seen = wide[:, :, 4 * frame : 4 * frame + width].permute(1, 2, 0).numpy()
        grain = 0.02 * rng.standard_normal(seen.shape, dtype=np.float32)
        yield (np.clip(seen + grain, 0, 1) * 255).astype(np.uint8)

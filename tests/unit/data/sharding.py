"""Small payloads of encode from arrays, for those who read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundstage.config.tree import WindowConfig
from soundstage.data.records import SHARD_SAMPLES, write_table
from soundstage.data.shards import EncodedSample, shard_entry, shard_rows, write_index, write_shard, write_text
from soundstage.models.backbones.base import TextEmbedding

WINDOW = WindowConfig(num_frames=4, size=16)
FINGERPRINTS = {"codec": "pixels", "audio": "a1"}
ABOUT = {"fingerprints": FINGERPRINTS, "buckets": {"4x16x16": WINDOW.model_dump(mode="json")}}
TEXT = TextEmbedding(torch.arange(2 * 3 * 4.0).view(2, 3, 4), torch.tensor([[1, 0, 0], [1, 1, 0]]).bool())


def sample(number: int, use: str = "pretrain") -> EncodedSample:
    rng = np.random.default_rng(number)
    key = f"{number:032x}"
    about: dict[str, Any] = {"key": key, "clip_id": f"clip{number}", "use": use, "caption": "a lamp", "weight": 1.0}
    about |= {"window_start_us": number, "flip": False, "bucket": "4x16x16"}
    latents = rng.normal(size=(3, 4, 8, 8)).astype(np.float16)
    audio = {name: rng.normal(size=shape).astype(np.float16) for name, shape in shapes(number).items()}
    return EncodedSample(key, latents, audio, about)


def shapes(number: int) -> dict[str, tuple[int, int]]:
    """Of what two encoders hear: a fine one, and a coarse one whose name sorts before it."""
    return {"mel": (50 + number, 17), "ast": (5, 12)}


def write_payload(
    folder: Path,
    samples: list[EncodedSample],
    per_shard: int = 3,
    captions: Sequence[str] = ("", "a lamp"),
    text: TextEmbedding = TEXT,
    about: Mapping[str, Any] = ABOUT,
) -> None:
    """An encode payload of these samples, with the embeddings of captions, and `about` in its index."""
    shards: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for first in range(0, len(samples), per_shard):
        path, batch = folder / "shards" / f"{len(shards):06d}.tar", samples[first : first + per_shard]
        write_shard(path, batch)
        made = shard_rows(path, batch)
        shards.append(shard_entry(path, made))
        rows += made
    write_table(folder / "samples.parquet", SHARD_SAMPLES, rows, ["key"])
    write_text(folder / "text.safetensors", text.embeddings, text.mask)
    write_index(folder, shards, {"captions": list(captions), **about})

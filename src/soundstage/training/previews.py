"""Sample videos while training: held-out windows animated by the model as it is, beside what they should be."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..media.encode import write_video
from ..media.frames import enlarged
from ..models.backbones.base import Backbone, TextEmbedding
from ..models.sampling import Guidance, sample_latents
from .engine import Engine
from .feed import Batch
from .objective import DenoisingObjective


def write_previews(
    folder: Path,
    steps: int,
    engine: Engine,
    backbone: Backbone,
    objective: DenoisingObjective,
    batch: Batch,
    null_text: TextEmbedding,
    num_inference_steps: int,
) -> None:
    """Write `step00000100-0-<clip>.mp4` for each sample of `batch`: its true window left, the generated one right.

    Silent: shards hold what encoders heard, not the sound. All ranks take part, because under ZeRO-3 each holds a part
    of the weights; rank 0 decodes and writes.
    """
    batch, window = batch.to(engine.device), objective.window_of(batch)
    with engine.inference():
        made = sample_latents(
            objective.model,
            backbone,
            batch.latents[:, :, :1],
            batch.text,
            null_text.to(engine.device),
            objective.heard(batch),
            num_latent_frames=batch.latents.shape[2],
            fps=window.fps,
            seeds=range(len(batch.clip_ids)),
            num_inference_steps=num_inference_steps,
            guidance=Guidance(),
        )
    if engine.rank != 0:
        return
    truth, found = (_decoded(backbone, latents) for latents in (batch.latents, made))
    # By number too: two windows may be of one clip.
    for number, (clip_id, left, right) in enumerate(zip(batch.clip_ids, truth, found, strict=True)):
        beside = np.concatenate([enlarged(left), enlarged(right)], axis=2)
        path = folder / f"step{steps:08d}-{number}-{clip_id[:12]}.mp4"
        write_video(path, beside, window.fps, None, 0)


def first_of(batch: Batch, count: int) -> Batch:
    """The first samples of a batch, at most `count`."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(item) for name, item in value.items()}
        if isinstance(value, TextEmbedding):
            return TextEmbedding(value.embeddings[:count], value.mask[:count])
        return value[:count] if isinstance(value, torch.Tensor | tuple) else value

    return replace(batch, **{each.name: cut(getattr(batch, each.name)) for each in fields(batch)})


def _decoded(backbone: Backbone, latents: torch.Tensor) -> np.ndarray:
    return np.asarray(backbone.codec.decode(latents.float().cpu()).numpy())

"""Stage `encode`: windows of selected clips to latents and audio features in WebDataset shards.

Encoders come from the models room: the one place where data reads a model, because what is stored is what they say.
Shards are planned first (`encode_plan`) and then made in any order, by any number of processes (`encode_work`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..config.audio import SyncTowerConfig
from ..config.slices import EncodeSlice
from ..config.tree import BackboneConfig, WindowConfig
from ..errors import ConfigError, DataError
from ..models.audio.load import bundle_encoders, load_audio_encoders
from ..models.backbones.load import encode_captions, encoder_fingerprints, encoder_hashes, encoder_text, window_shape
from ..models.sync.scorer import CONFIG_FILE as SCORER_FILE
from ..stages import Inputs, Outcome, Progress, Work
from ..stages.progress import track
from .buckets import bucket_windows
from .captions import embed_captions, write_captions
from .encode_plan import PlannedShard, plan_shards
from .encode_work import EncodeWork, FinishedShard, make_shards
from .records import CLIPS, SELECTION, SHARD_SAMPLES, read_table, write_table
from .shards import NULL_CAPTION, SAMPLES_FILE, SHARDS_FOLDER, TEXT_FILE, write_index
from .suites import TRAINING_USES

ENCODERS_FOLDER = "encoders"


def run(config: EncodeSlice, inputs: Inputs, work: Work) -> Outcome:
    """Encode every selected training and validation clip, each window on its own, in the order of clip ids.

    A run that was stopped goes on with the shards that it had not finished, and gives the same bytes.

    Raises:
        ConfigError: a window that the codec does not take.
        DataError: nothing was selected for training, or a clip cannot be decoded.
    """
    torch.set_num_threads(1)  # thread counts move float sums; one thread gives the same bytes everywhere
    chosen = _chosen(inputs, work)
    check_windows(bucket_windows(config.encode, config.window), config.model.backbone)
    plans = plan_shards(chosen, config)
    bundle_encoders(config.model.audio, _curator(config, inputs, work), work.out / ENCODERS_FOLDER)
    about = _about(config, work.out / ENCODERS_FOLDER) | {"selection": inputs["selection"].content}
    made_with = json.dumps(about, sort_keys=True)
    shards = _encode(plans, config, work, made_with)
    rows = [row for shard in shards for row in shard.rows]
    write_table(work.out / SAMPLES_FILE, SHARD_SAMPLES, rows, sort_by=["key"])
    captions = [NULL_CAPTION, *sorted({row["caption"] for row in rows} - {NULL_CAPTION})]
    write_captions(work.out / TEXT_FILE, _embedded(config, captions, work, made_with))
    for shard in shards:
        _place(shard.path, work.out / SHARDS_FOLDER / shard.path.name)
    write_index(work.out, [shard.entry for shard in shards], about | {"captions": captions})
    return _outcome(len(chosen), rows, shards)


def _chosen(inputs: Inputs, work: Work) -> list[dict[str, Any]]:
    """Rows of the selection that are encoded, each with its clip's row as `clip`."""
    clips = {row["clip_id"]: row for row in read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)}
    selection = read_table(work.workspace.output(inputs["selection"], "selection.parquet"), SELECTION)
    chosen = [row | {"clip": clips[row["clip_id"]]} for row in selection if row["use"] in TRAINING_USES]
    if not any(row["use"] == "pretrain" for row in chosen):
        raise DataError("no clip is selected for pretraining; see the funnel of `soundstage select`")
    return chosen


def check_windows(windows: Mapping[str, WindowConfig], backbone: BackboneConfig) -> None:
    """Refuse windows that the codec does not take, from its configuration alone, before anything is decoded.

    Raises:
        ConfigError: frames that are no whole latents, or a height or width that is not.
    """
    shape = window_shape(backbone)
    for number, (name, window) in enumerate(windows.items()):
        at = f"encode.buckets, {name}: " if number else ""
        try:
            shape.latent_frames(window.num_frames)
        except ConfigError as error:
            raise ConfigError(f"{at}{error}") from error
        if any(side % shape.spatial_stride for side in window.frame_size):
            raise ConfigError(
                f"{at}height and width {window.frame_size} do not divide into latents of {shape.spatial_stride} x "
                f"{shape.spatial_stride} pixels; take multiples of {shape.spatial_stride}"
            )


def _curator(config: EncodeSlice, inputs: Inputs, work: Work) -> Path | None:
    """A folder that holds the pipeline's curator under the name of each encoder that asks for it."""
    names = [n for n, c in config.model.audio.encoders.items() if isinstance(c, SyncTowerConfig) and c.scorer is None]
    if not names:
        return None
    description = f"scorer/{SCORER_FILE}"
    if description not in inputs["curator"].outputs:
        raise DataError(
            f"model.audio.encoders.{names[0]} hears through the pipeline's curator, and none was trained: "
            f"{inputs['curator'].notes.get('scorer', 'see its notes')}; leave it out, or name a saved scorer"
        )
    made = work.workspace.output(inputs["curator"], description).parent
    folder = work.scratch / "encoders"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to(made.resolve())
    return folder


def _about(config: EncodeSlice, bundled: Path) -> dict[str, Any]:
    """What the shards are made with: encoders by name and by weights, windows and settings."""
    heard = load_audio_encoders(config.model.audio, bundled)
    backbone = config.model.backbone
    return {
        "fingerprints": encoder_fingerprints(backbone, config.model.audio),
        "encoders": encoder_hashes(backbone) | {f"audio.{n}": e.fingerprint for n, e in heard.items()},
        "grids": {name: asdict(encoder.grid) for name, encoder in heard.items()},
        "buckets": {n: w.model_dump(mode="json") for n, w in bucket_windows(config.encode, config.window).items()},
        "settings": {
            # Not the number of processes: it changes nothing.
            "encode": config.encode.model_dump(mode="json", exclude={"workers"}),
            "backbone": backbone.model_dump(mode="json"),
            "codec": asdict(window_shape(backbone)) | {"dtype": "fp32"},
            "audio": config.model.audio.model_dump(mode="json"),
        },
        "sample": {
            "latents.npy": "float16 (C, F, h, w)",
            **{f"audio.{name}.npy": "float16 (T, D)" for name in heard},
            "json": "about the sample",
        },
    }


def _encode(plans: Sequence[PlannedShard], config: EncodeSlice, work: Work, made_with: str) -> list[FinishedShard]:
    """The planned shards, in their order."""
    todo = EncodeWork(config, work.workspace, work.out / ENCODERS_FOLDER, work.scratch / SHARDS_FOLDER, made_with)
    made: dict[str, FinishedShard] = {}
    with Progress("encode", sum(len(plan.samples) for plan in plans), "sample") as progress:
        for shard in make_shards(plans, todo, config.encode.workers):
            made[shard.path.name] = shard
            progress.advance(len(shard.rows))
    return [made[plan.name] for plan in plans]


def _embedded(
    config: EncodeSlice, captions: Sequence[str], work: Work, made_with: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Embedding (L, D) and mask (L,) of each caption; the text encoder is loaded if one is missing."""
    text = cache(lambda: encoder_text(config.model.backbone))

    def embed(caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        found = encode_captions(text(), [caption])
        return found.embeddings[0].cpu(), found.mask[0].cpu()

    found = embed_captions(captions, embed, work.scratch / "captions", made_with)
    yield from track(found, "captions", len(captions), "caption")


def _place(shard: Path, target: Path) -> None:
    """Let a shard appear among the outputs; it stays in the scratch folder, in case the stage is killed before its end.

    A second name costs nothing; where there are no hard links it is moved.
    """
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(shard, target)
    except OSError:
        shard.replace(target)


def _outcome(clips: int, rows: Sequence[Mapping[str, Any]], shards: Sequence[FinishedShard]) -> Outcome:
    """Numbers by use and by bucket; `clips` were chosen, and each is in one bucket."""
    counts = Counter(f"samples_{row['use']}" for row in rows)
    counts.update(f"samples_{row['bucket']}" for row in rows)
    counts.update(f"clips_{bucket}" for bucket in {row["clip_id"]: row["bucket"] for row in rows}.values())
    stored: Counter[str] = Counter()
    for shard in shards:
        stored[shard.entry["bucket"]] += shard.entry["bytes"]
    total = {"clips": clips, "samples": len(rows), "shards": len(shards), "bytes": stored.total()}
    each = {f"bytes_per_sample_{bucket}": size / counts[f"samples_{bucket}"] for bucket, size in stored.items()}
    return Outcome(counts=total | counts, metrics={"bytes_per_sample": stored.total() / len(rows)} | each)

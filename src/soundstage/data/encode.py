"""Stage `encode`: windows of selected clips to latents and audio features in WebDataset shards.

Encoders come from the models room: the one place where data reads a model, because what is stored is what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config.audio import SyncTowerConfig
from ..config.slices import EncodeSlice
from ..errors import DataError
from ..media.decode import decode_clip
from ..models.audio.base import AudioEncoder
from ..models.audio.load import bundle_encoders, encode_sound, load_audio_encoders
from ..models.backbones.base import Codec
from ..models.backbones.load import encode_captions, encoder_fingerprints, encoder_hashes, encoders, window_shape
from ..models.sync.scorer import CONFIG_FILE as SCORER_FILE
from ..stages import Inputs, Outcome, Progress, Work
from .records import CLIPS, SELECTION, SHARD_SAMPLES, read_table, write_table
from .shards import (
    NULL_CAPTION,
    SAMPLES_FILE,
    TEXT_FILE,
    EncodedSample,
    shard_rows,
    write_index,
    write_shard,
    write_text,
)
from .windows import bucket_name, plan_windows, window_frames, window_sound

ENCODED_USES = ("pretrain", "finetune", "validation")
ENCODERS_FOLDER = "encoders"


def run(config: EncodeSlice, inputs: Inputs, work: Work) -> Outcome:
    """Encode every selected training and validation clip; one decode a clip, windows in the order of clip ids.

    Raises:
        DataError: nothing was selected for training.
    """
    torch.set_num_threads(1)  # thread counts move float sums; one thread gives the same bytes everywhere
    clips = {row["clip_id"]: row for row in read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)}
    selection = read_table(work.workspace.output(inputs["selection"], "selection.parquet"), SELECTION)
    chosen = [row | {"clip": clips[row["clip_id"]]} for row in selection if row["use"] in ENCODED_USES]
    if not any(row["use"] == "pretrain" for row in chosen):
        raise DataError("no clip is selected for pretraining; see the funnel of `soundstage select`")
    _check_window(config)
    codec, text = encoders(config.model.backbone)
    bundle_encoders(config.model.audio, _curator(config, inputs, work), work.out / ENCODERS_FOLDER)
    heard = load_audio_encoders(config.model.audio, work.out / ENCODERS_FOLDER)
    shards: list[Path] = []
    rows: list[dict[str, Any]] = []
    with Progress("encode", len(chosen), "clip") as progress:
        samples = _samples(config, work, chosen, codec, heard, progress)
        while batch := list(islice(samples, config.encode.samples_per_shard)):
            path = work.out / "shards" / f"{len(shards):06d}.tar"
            write_shard(path, batch)
            shards.append(path)
            rows += shard_rows(path, batch)
    write_table(work.out / SAMPLES_FILE, SHARD_SAMPLES, rows, sort_by=["key"])
    captions = [NULL_CAPTION, *sorted({row["caption"] for row in rows} - {NULL_CAPTION})]
    embedded = encode_captions(text, captions)
    write_text(work.out / TEXT_FILE, embedded.embeddings, embedded.mask)
    about = {
        "selection": inputs["selection"].content,
        "captions": captions,
        "fingerprints": encoder_fingerprints(config.model.backbone, config.model.audio),
        "encoders": encoder_hashes(config.model.backbone) | {f"audio.{n}": e.fingerprint for n, e in heard.items()},
        "grids": {name: asdict(encoder.grid) for name, encoder in heard.items()},
        "buckets": {bucket_name(config.window): config.window.model_dump(mode="json")},
        "sample": {
            "latents.npy": "float16 (C, F, h, w)",
            **{f"audio.{name}.npy": "float16 (T, D)" for name in heard},
            "json": "about the sample",
        },
    }
    per_shard = Counter(row["shard"].removeprefix("shards/") for row in rows)
    write_index(work.out, shards, dict(per_shard), about)
    uses = Counter(f"samples_{row['use']}" for row in rows)
    size = sum(path.stat().st_size for path in shards)
    return Outcome(
        counts={"clips": len(chosen), "samples": len(rows), "shards": len(shards), "bytes": size, **uses},
        metrics={"bytes_per_sample": size / len(rows)},
    )


def _check_window(config: EncodeSlice) -> None:
    """Before anything is decoded: a codec that takes no window of this length stops the stage."""
    window_shape(config.model.backbone).latent_frames(config.window.num_frames)


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
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to(made.resolve())
    return folder


def _samples(
    config: EncodeSlice,
    work: Work,
    chosen: list[dict[str, Any]],
    codec: Codec,
    encoders: dict[str, AudioEncoder],
    progress: Progress,
) -> Iterator[EncodedSample]:
    for row in chosen:
        clip, shift = row["clip"], row["audio_shift_sec"]
        decoded = decode_clip(work.workspace.resolve(clip["media_uri"]))
        written: set[str] = set()
        for planned in plan_windows(clip, shift, config.encode, config.window):
            if planned.key in written:  # a clip barely longer than a window has few distinct starts
                continue
            written.add(planned.key)
            start = planned.start_us / 1e6
            frames = window_frames(decoded, start, config.window)
            frames = frames[:, :, ::-1] if planned.flip else frames
            sound = window_sound(decoded, start, shift, config.window, config.model.audio.sample_rate)
            heard = encode_sound(encoders, torch.from_numpy(sound), -config.window.audio_margin_sec)
            about = {
                "key": planned.key,
                "clip_id": row["clip_id"],
                "use": row["use"],
                "caption": clip["caption"],
                "weight": row["weight"],
                "window_start_us": planned.start_us,
                "flip": planned.flip,
                "bucket": bucket_name(config.window),
            }
            latents = codec.encode(torch.from_numpy(np.ascontiguousarray(frames))[None])[0]
            audio = {name: found.features.numpy().astype(np.float16) for name, found in heard.items()}
            yield EncodedSample(planned.key, latents.numpy().astype(np.float16), audio, about)
        progress.advance()

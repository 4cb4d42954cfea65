"""Making planned shards: in this process or in several, each shard once, whole or not at all.

In the scratch folder of the stage, which outlives a failed run, stand for each shard

000000.plan.json   what goes into it
000000.tar         the shard
000000.rows.json   its entry in the index, its rows, and the recipe: the hash of the plan and of what it is made with

A shard is finished when its rows are there with the recipe that is asked for, and its bytes have the hash they state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config.slices import EncodeSlice
from ..config.tree import WindowConfig
from ..errors import DataError
from ..media.decode import DecodedClip, decode_clip
from ..media.isolation import WorkerFailure, run_isolated
from ..models.audio.load import encode_sound, load_audio_encoders
from ..models.backbones.load import encoder_codec
from ..stages.files import sha256_file, sha256_text, write_json, write_text
from ..stages.workspace import Workspace
from .buckets import bucket_windows
from .encode_plan import PlannedSample, PlannedShard
from .shards import EncodedSample, shard_entry, shard_rows, write_shard
from .windows import window_frames, window_sound


@dataclass(frozen=True)
class EncodeWork:
    """What a process needs in order to make shards."""

    config: EncodeSlice
    workspace: Workspace
    encoders: Path
    """folder of the audio encoders that have no public name"""
    folder: Path
    """where plans are and shards appear"""
    made_with: str
    """text that changes with encoders, weights and settings"""

    def recipe(self, plan: str) -> str:
        """Hash of all that decides the bytes of a shard with this plan."""
        return sha256_text(f"{self.made_with}\n{plan}")


@dataclass(frozen=True)
class FinishedShard:
    """A shard as it lies in the scratch folder."""

    path: Path
    entry: dict[str, Any]
    """its row in `index.json`"""
    rows: list[dict[str, Any]]
    """its rows in `samples.parquet`"""


class ShardEncoder:
    """Makes shards from their plans, with encoders that are loaded once."""

    def __init__(self, work: EncodeWork) -> None:
        torch.set_num_threads(1)  # thread counts move float sums; one thread gives the same bytes everywhere
        self._work, self._config = work, work.config
        self._windows = bucket_windows(work.config.encode, work.config.window)
        self._codec = encoder_codec(work.config.model.backbone)
        self._audio = load_audio_encoders(work.config.model.audio, work.encoders)

    def make(self, plan: Path) -> None:
        """Write the shard of a plan, then its rows.

        Raises:
            DataError: a clip cannot be decoded; it is named.
        """
        shard, target = PlannedShard.load(plan), plan.parent
        path = target / shard.name
        written = list(self._samples(shard))
        write_shard(path, written)
        rows = shard_rows(path, written)
        told = {"recipe": self._work.recipe(plan.read_text()), "entry": shard_entry(path, rows), "rows": rows}
        write_json(_rows_path(target, shard.name), told)

    def _samples(self, shard: PlannedShard) -> Iterator[EncodedSample]:
        for clip_id, planned in groupby(shard.samples, key=lambda sample: sample.clip_id):
            samples = list(planned)
            try:
                clip = decode_clip(self._work.workspace.resolve(samples[0].media_uri))
            except DataError as error:
                raise DataError(f"clip {clip_id} cannot be encoded: {error}") from error
            for sample in samples:
                yield self._encoded(sample, clip, self._windows[sample.bucket])

    def _encoded(self, sample: PlannedSample, clip: DecodedClip, window: WindowConfig) -> EncodedSample:
        start, rate = sample.window_start_us / 1e6, self._config.model.audio.sample_rate
        frames = window_frames(clip, start, window)
        frames = frames[:, :, ::-1] if sample.flip else frames
        sound = window_sound(clip, start, sample.audio_shift_sec, window, rate)
        heard = encode_sound(self._audio, torch.from_numpy(sound), -window.audio_margin_sec)
        latents = self._codec.encode(torch.from_numpy(np.ascontiguousarray(frames))[None])[0]
        # A codec may sit on an accelerator.
        audio = {name: found.features.cpu().numpy().astype(np.float16) for name, found in heard.items()}
        return EncodedSample(sample.key, latents.cpu().numpy().astype(np.float16), audio, sample.about())


def make_shards(plans: Iterable[PlannedShard], work: EncodeWork, workers: int) -> Iterator[FinishedShard]:
    """Every planned shard, in no particular order; only those are made that are not finished already.

    The bytes are the same for any number of processes, and however often a run was killed before.

    Raises:
        DataError: a clip cannot be decoded, or an encoding process died; the shard is named.
    """
    names, missing = [], []
    for plan in plans:
        finished = finished_shard(plan, work)
        if finished is not None:
            yield finished
            continue
        path = work.folder / f"{Path(plan.name).stem}.plan.json"
        write_text(path, plan.to_json())
        names.append(plan.name)
        missing.append(path)
    for index in _made(missing, work, workers):
        yield _load(work.folder, names[index])


def finished_shard(plan: PlannedShard, work: EncodeWork) -> FinishedShard | None:
    """The shard of an earlier run; None where it is missing, altered, or made of another plan or by other encoders."""
    path, rows = work.folder / plan.name, _rows_path(work.folder, plan.name)
    if not path.exists() or not rows.exists():
        return None
    if json.loads(rows.read_text())["recipe"] != work.recipe(plan.to_json()):
        return None
    finished = _load(work.folder, plan.name)
    return finished if sha256_file(path) == finished.entry["sha256"] else None


def _made(plans: list[Path], work: EncodeWork, workers: int) -> Iterator[int]:
    """Index of each plan, when its shard is there."""
    if min(workers, len(plans)) <= 1:
        encoder = ShardEncoder(work) if plans else None
        for index, plan in enumerate(plans):
            assert encoder is not None
            encoder.make(plan)
            yield index
        return
    answers = run_isolated(
        _make,
        plans,
        workers=workers,
        timeout_sec=float("inf"),
        memory_gib=None,
        setup=partial(_prepare, work),
    )
    for index, answer in answers:
        if isinstance(answer, WorkerFailure):
            shard = PlannedShard.load(plans[index]).name
            raise DataError(
                f"a process died while it encoded shard {shard}, most likely out of memory ({answer.detail}); set "
                "encode.workers lower and run again: finished shards are kept"
            )
        yield index


_encoder: ShardEncoder | None = None
"""of a process that makes shards"""


def _prepare(work: EncodeWork) -> None:
    global _encoder
    _encoder = ShardEncoder(work)


def _make(plan: Path) -> None:
    assert _encoder is not None
    _encoder.make(plan)


def _rows_path(folder: Path, name: str) -> Path:
    return folder / f"{Path(name).stem}.rows.json"


def _load(folder: Path, name: str) -> FinishedShard:
    told = json.loads(_rows_path(folder, name).read_text())
    return FinishedShard(folder / name, told["entry"], told["rows"])

"""What encode reads, made small: real media, its records, and readers of what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundstage.config import Config, load_config, stage_slice
from soundstage.config.slices import EncodeSlice
from soundstage.config.tree import ScorerConfig
from soundstage.data import encode
from soundstage.data.records import CLIPS, SELECTION, write_table
from soundstage.data.shards import ShardReader
from soundstage.media.encode import write_video
from soundstage.models.backbones.load import encoder_fingerprints
from soundstage.models.sync import SyncScorer, save_scorer
from soundstage.stages import Execution, Inputs, Outcome, StageRecord, Work, Workspace, execute

FPS, RATE, FRAMES = 24, 16000, 60
CLICK_SEC = 1.2


class Nothing(Config):
    pass


def config(*overrides: str, **encode_changes: Any) -> EncodeSlice:
    changes = [*overrides, *(f"encode.{name}={value}" for name, value in encode_changes.items())]
    found = stage_slice("encode", load_config("micro", overrides=changes))
    assert isinstance(found, EncodeSlice)
    return found


def write_clip(workspace: Workspace, clip_id: str, label_level: int) -> dict[str, Any]:
    """A clip bright on its left, its level rising from frame to frame, with one click."""
    frames = np.zeros((FRAMES, 48, 48, 3), np.uint8)
    frames[:, :, :24] = (label_level + np.arange(FRAMES))[:, None, None, None]
    return write_frames(workspace, clip_id, frames)


def write_frames(workspace: Workspace, clip_id: str, frames: NDArray[np.uint8]) -> dict[str, Any]:
    """The row of a clip with these frames (FRAMES, H, W, 3) and one click."""
    uri = f"media/{clip_id}.mp4"
    sound = np.zeros(FRAMES * RATE // FPS, np.float32)
    sound[round(CLICK_SEC * RATE) :][:80] = 0.9
    write_video(workspace.resolve(uri), frames, FPS, sound, RATE)
    texts = dict.fromkeys(CLIPS.names, "x")
    numbers = {"start_us": 0, "duration_us": 2_500_000, "fps_num": FPS, "fps_den": 1, "num_frames": FRAMES}
    numbers |= {"width": frames.shape[2], "height": frames.shape[1], "sample_rate": RATE, "channels": 1}
    return texts | numbers | {"clip_id": clip_id, "media_uri": uri, "caption": f"caption of {clip_id}"}


def record(workspace: Workspace, stage: str, write: Callable[[Path], object], **notes: str) -> StageRecord:
    def run(_config: Nothing, _inputs: Inputs, work: Work) -> Outcome:
        write(work.out)
        return Outcome(notes=notes)

    return execute(stage, run, Nothing(), {}, workspace, code_version="v", cacheable=False).record


def records(
    workspace: Workspace, clips: list[dict[str, Any]], chosen: list[dict[str, Any]], curator: bool = False
) -> dict[str, StageRecord]:
    """What encode reads: clips, the selection, and a curator that was trained or was not."""

    def train(out: Path) -> None:
        if curator:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                scorer = SyncScorer(ScorerConfig(width=2, embedding_dim=8), RATE)
            save_scorer(out / "scorer", scorer, {"role": "curator"})

    def table(name: str, schema: Any, rows: list[dict[str, Any]]) -> Callable[[Path], object]:
        return lambda out: write_table(out / name, schema, rows, ["clip_id"])

    return {
        "clips": record(workspace, "split", table("clips.parquet", CLIPS, clips)),
        "selection": record(workspace, "select", table("selection.parquet", SELECTION, chosen)),
        "curator": record(workspace, "curator", train, scorer="trained" if curator else "none trained: 3 clips"),
    }


def run(prepared: tuple[Workspace, dict[str, StageRecord]], slice_: EncodeSlice) -> Execution:
    """The stage over what it reads."""
    workspace, inputs = prepared
    return execute("encode", encode.run, slice_, inputs, workspace, code_version="v", cacheable=False)


def reader_of(workspace: Workspace, done: Execution, slice_: EncodeSlice) -> ShardReader:
    """The samples that it wrote."""
    fingerprints = encoder_fingerprints(slice_.model.backbone, slice_.model.audio)
    return ShardReader(workspace.resolve(done.record.payload), fingerprints, {"pretrain", "finetune", "validation"})

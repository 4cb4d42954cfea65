"""The end of the demonstration: one image and one sound that no training has seen, animated by the new model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from soundstage.config import SoundstageConfig
from soundstage.errors import DataError
from soundstage.stages import StageRecord, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HELD_OUT = ("open_class_test", "test", "validation")


class Example(NamedTuple):
    """What a model is asked to animate."""

    image: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    sample_rate: int
    caption: str


def animate_unseen(config: SoundstageConfig, workspace: Workspace, records: Mapping[str, StageRecord]) -> Path:
    """Animate an unseen example with the adapter of stage two; returns the video, `animation.mp4` in the workspace.

    The procedural world draws a scene outside its seeds; of real videos, one held-out clip gives the picture, another
    the sound.

    Raises:
        DataError: fewer than two held-out clips.
    """
    from soundstage.media.encode import write_video
    from soundstage.media.frames import enlarged
    from soundstage.models.animate import Animator

    is_world = config.ingest.source.startswith("synth:")
    example = _of_world(config) if is_world else _of_clips(workspace, records["split"])
    backbone = workspace.resolve(records["backbone"].payload) / "backbone"
    adapter = workspace.resolve(records["finetune"].payload) / "adapter"
    animator = Animator.load(backbone, adapter)
    frames = animator.animate(example.image, example.waveform, example.sample_rate, example.caption, seed=0)
    target = workspace.root / "animation.mp4"
    sound = example.waveform[: round(len(frames) / float(animator.fps) * example.sample_rate)]
    write_video(target, enlarged(frames), animator.fps, sound, example.sample_rate)
    return target


def _of_world(config: SoundstageConfig) -> Example:
    from soundstage.synth.world import unseen_example

    return Example(*unseen_example(config.synth))


def _of_clips(workspace: Workspace, split: StageRecord) -> Example:
    from soundstage.data.records import CLIPS, read_table
    from soundstage.media.decode import decode_clip

    rows = read_table(workspace.output(split, "clips.parquet"), CLIPS)
    held_out = sorted(
        (row for row in rows if row["split"] in _HELD_OUT),
        key=lambda row: (_HELD_OUT.index(row["split"]), row["clip_id"]),
    )
    if len(held_out) < 2:
        raise DataError(
            f"{len(held_out)} held-out clips of {len(rows)}; the demonstration needs two that no training has seen: "
            "add videos, or raise split.test"
        )
    picture, other = held_out[0], held_out[1]
    shown = decode_clip(workspace.resolve(picture["media_uri"]))
    heard = decode_clip(workspace.resolve(other["media_uri"]))
    return Example(shown.frames[0], heard.waveform, heard.sample_rate, picture["caption"])

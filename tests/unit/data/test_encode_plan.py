"""The plan of shards: every chosen clip once, every shard of one bucket, nothing drawn twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.config.slices import EncodeSlice
from soundstage.data.encode_plan import PlannedShard, plan_shards
from soundstage.data.records import SHARD_SAMPLES
from soundstage.data.windows import plan_windows

from .encoding import config

BUCKETS = "[{num_frames: 12, size: 16, width: 32}, {num_frames: 6, size: 32, width: 16}]"


def chosen(count: int = 40) -> list[dict[str, Any]]:
    """Clips of many shapes and lengths, at least as long as a window of the micro preset."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(count):
        frames = int(rng.integers(24, 96))
        clip = {"clip_id": f"{number:03d}", "media_sha256": "m", "num_frames": frames, "fps_num": 24, "fps_den": 1}
        clip |= {"width": int(rng.integers(20, 80)), "height": int(rng.integers(20, 80))}
        clip |= {"caption": f"caption {number}", "media_uri": f"media/{number}.mp4"}
        use = ("pretrain", "finetune", "validation")[number % 3]
        rows.append({"clip_id": clip["clip_id"], "use": use, "weight": 1.0, "audio_shift_sec": 0.0, "clip": clip})
    return rows


@pytest.fixture(scope="module")
def slice_() -> EncodeSlice:
    return config("encode.buckets=" + BUCKETS, samples_per_shard=7)


def test_every_clip_is_in_one_bucket_and_every_shard_is_of_one(slice_: EncodeSlice) -> None:
    rows = chosen()
    shards = plan_shards(rows, slice_)
    samples = [sample for shard in shards for sample in shard.samples]
    assert {sample.clip_id for sample in samples} == {row["clip_id"] for row in rows}
    buckets = {clip: {s.bucket for s in samples if s.clip_id == clip} for clip in {s.clip_id for s in samples}}
    assert {len(found) for found in buckets.values()} == {1}
    assert {next(iter(found)) for found in buckets.values()} == {"6x16x16", "12x16x32", "6x32x16"}
    per_shard = [{sample.bucket for sample in shard.samples} for shard in shards]
    assert {len(found) for found in per_shard} == {1}
    assert {len(shard.samples) for shard in shards[:-1]} >= {7}
    assert max(len(shard.samples) for shard in shards) == 7
    assert len({sample.key for sample in samples}) == len(samples)
    held_out = {row["clip_id"] for row in rows if row["use"] == "validation"}
    assert {sample.bucket for sample in samples if sample.clip_id in held_out} == {"6x16x16"}


def test_a_plan_depends_on_selection_and_configuration_alone(slice_: EncodeSlice) -> None:
    rows = chosen()
    shards = plan_shards(rows, slice_)
    assert plan_shards(rows[::-1], slice_) == shards
    assert [shard.name for shard in shards] == [f"{number:06d}.tar" for number in range(len(shards))]
    in_order = [sample for shard in shards for sample in shard.samples if sample.bucket == "6x16x16"]
    assert [sample.clip_id for sample in in_order] == sorted(sample.clip_id for sample in in_order)


def test_a_clip_that_just_holds_a_window_has_one_sample_of_each_flip() -> None:
    rows = chosen(1)
    rows[0]["clip"]["num_frames"] = 24
    slice_ = config(windows_per_clip=6)
    (shard,) = plan_shards(rows, slice_)
    assert [(sample.window_start_us, sample.flip) for sample in shard.samples] == [(0, False), (0, True)]


def test_without_buckets_the_windows_are_those_of_the_model() -> None:
    slice_ = config(windows_per_clip=3)
    found = [sample for shard in plan_shards(chosen(), slice_) for sample in shard.samples]
    wanted = [
        key
        for row in chosen()
        for key in dict.fromkeys(w.key for w in plan_windows(row["clip"], 0.0, slice_.encode, slice_.window))
    ]
    assert [sample.key for sample in found] == wanted


def test_a_plan_is_read_back_as_it_was_written(slice_: EncodeSlice, tmp_path: Path) -> None:
    shard = plan_shards(chosen(), slice_)[0]
    path = tmp_path / "plan.json"
    path.write_text(shard.to_json())
    assert PlannedShard.load(path) == shard
    places = {"shard", "offset", "size", "sha256"}
    assert shard.samples[0].about().keys() == set(SHARD_SAMPLES.names) - places

"""Stage `encode` with buckets over real media: shapes, counts, and what the index tells of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundstage.config.slices import EncodeSlice
from soundstage.data.shards import ShardReader
from soundstage.errors import ConfigError
from soundstage.stages import Execution, Workspace

from .encoding import FRAMES, config, reader_of, records, run, write_clip, write_frames

BUCKETS = "[{num_frames: 12, size: 16, width: 32}, {num_frames: 9, size: 32, width: 16}]"
CLIPS = {"wide": (24, 48), "tall": (48, 24), "square": (48, 48), "held out": (24, 48)}
WANTED = {"wide": "12x16x32", "tall": "9x32x16", "square": "6x16x16", "held out": "6x16x16"}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Execution, ShardReader, EncodeSlice]:
    workspace = Workspace.open(tmp_path_factory.mktemp("buckets") / "workspace")
    clips = [write_frames(workspace, name, np.full((FRAMES, *size, 3), 90, np.uint8)) for name, size in CLIPS.items()]
    chosen = [
        {"clip_id": name, "use": use, "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
        for name, use in zip(CLIPS, ("pretrain", "pretrain", "finetune", "validation"), strict=True)
    ]
    slice_ = config(f"encode.buckets={BUCKETS}", windows_per_clip=4, samples_per_shard=3)
    done = run((workspace, records(workspace, clips, chosen)), slice_)
    return done, reader_of(workspace, done, slice_), slice_


def test_samples_have_the_size_and_length_of_their_bucket(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    _, reader, slice_ = encoded
    assert {row["clip_id"]: row["bucket"] for row in reader.rows} == WANTED
    assert list(reader.windows) == sorted(set(WANTED.values()))
    margin = slice_.window.audio_margin_sec
    for position, row in enumerate(reader.rows):
        latents, audio = reader.read(position)
        window = reader.windows[row["bucket"]]
        assert (window.fps, window.audio_margin_sec) == (slice_.window.fps, margin)
        assert latents.shape == (3, window.num_frames, *window.frame_size)
        assert row["bucket"] == "x".join(str(side) for side in latents.shape[1:])
        assert audio["mel"].shape[0] == round((float(window.duration_sec) + 2 * margin) / 0.01) + 1


def test_no_clip_is_lost_between_buckets(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    done, reader, _ = encoded
    counts, metrics = done.record.counts, done.record.metrics
    buckets = set(WANTED.values())
    assert sum(counts[f"clips_{bucket}"] for bucket in buckets) == counts["clips"] == len(CLIPS)
    assert sum(counts[f"samples_{bucket}"] for bucket in buckets) == counts["samples"] == len(reader)
    stored = sum(counts[f"samples_{bucket}"] * metrics[f"bytes_per_sample_{bucket}"] for bucket in buckets)
    assert stored == pytest.approx(counts["bytes"])
    assert metrics["bytes_per_sample"] == pytest.approx(counts["bytes"] / counts["samples"])


def test_a_shard_is_of_one_bucket(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    _, reader, _ = encoded
    stated = {shard["shard"]: shard["bucket"] for shard in reader.index["shards"]}
    assert {(row["shard"], row["bucket"]) for row in reader.rows} == set(stated.items())
    # The model's own bucket first, then the others as they are configured.
    assert list(dict.fromkeys(stated.values())) == ["6x16x16", "12x16x32", "9x32x16"]


def test_the_index_states_the_settings(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    _, reader, slice_ = encoded
    settings = reader.index["settings"]
    assert settings["encode"]["seed"] == slice_.encode.seed
    assert "workers" not in settings["encode"], "it changes nothing"
    assert settings["codec"] == {"channels": 3, "temporal_stride": 1, "spatial_stride": 1, "dtype": "fp32"}
    assert settings["backbone"]["dtype"] == "fp32"
    assert settings["audio"]["sample_rate"] == slice_.model.audio.sample_rate


@pytest.mark.parametrize(
    ("bucket", "message"),
    [
        ("{num_frames: 12, size: 32, width: 64}", r"encode\.buckets, 12x32x64: .* take 9 or 13"),
        ("{num_frames: 13, size: 32, width: 24}", r"encode\.buckets, 13x32x24: .*\(32, 24\) .* take multiples of 16"),
    ],
    ids=["frames", "size"],
)
def test_buckets_that_the_codec_does_not_take_are_refused_before_decoding(
    tmp_path: Path, bucket: str, message: str
) -> None:
    vae = tmp_path / "checkpoint" / "vae"
    vae.mkdir(parents=True)
    described = '{"_class_name": "AutoencoderKLWan", "z_dim": 48, "scale_factor_spatial": 16}'
    (vae / "config.json").write_text(described)
    workspace = Workspace.open(tmp_path / "workspace")
    row = {"clip_id": "a", "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
    clip = write_clip(workspace, "a", 80)
    workspace.resolve(clip["media_uri"]).unlink()
    model = [f"model.backbone.pretrained={tmp_path / 'checkpoint'}", "window.num_frames=5"]
    with pytest.raises(ConfigError, match=message):
        run((workspace, records(workspace, [clip], [row])), config(*model, f"encode.buckets=[{bucket}]"))

"""Stage `encode` over real media: which windows become samples, and what they hold."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from soundstage.config.slices import EncodeSlice
from soundstage.data.records import SHARD_SAMPLES, read_table
from soundstage.data.shards import ShardReader
from soundstage.errors import DataError
from soundstage.models.audio.load import feature_grids
from soundstage.stages import Execution, StageRecord, Workspace

from .encoding import CLICK_SEC, FPS, config, reader_of, records, run, write_clip

SHIFTS = {"clip0": 0.0, "clip1": 0.4, "clip2": -0.3, "clip3": 0.0, "clip4": 0.0}
USES = {"clip0": "pretrain", "clip1": "finetune", "clip2": "pretrain", "clip3": "test", "clip4": "validation"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, StageRecord]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("encode") / "workspace")
    clips = [write_clip(workspace, clip_id, 80 + 20 * n) for n, clip_id in enumerate(SHIFTS)]
    chosen = [
        {"clip_id": c, "use": USES[c], "reasons": "", "weight": 1.0 + n, "audio_shift_sec": SHIFTS[c]}
        for n, c in enumerate(SHIFTS)
    ]
    return workspace, records(workspace, clips, chosen)


@pytest.fixture(scope="module")
def encoded(prepared: tuple[Workspace, dict[str, StageRecord]]) -> tuple[Execution, ShardReader, EncodeSlice]:
    slice_ = config(windows_per_clip=6)
    done = run(prepared, slice_)
    return done, reader_of(prepared[0], done, slice_), slice_


def test_every_training_clip_is_encoded_and_no_test_clip(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    done, reader, _ = encoded
    assert {row["clip_id"]: row["use"] for row in reader.rows} == {c: u for c, u in USES.items() if u != "test"}
    counts = done.record.counts
    assert counts["clips"] == 4
    per_use = {use: sum(row["use"] == use for row in reader.rows) for use in ("pretrain", "finetune", "validation")}
    assert {use: counts[f"samples_{use}"] for use in per_use} == per_use
    assert counts["samples"] == len(reader) == sum(shard["samples"] for shard in reader.index["shards"])
    assert counts["shards"] == math.ceil(len(reader) / 16) == len(reader.index["shards"])
    assert {row["clip_id"]: row["weight"] for row in reader.rows}["clip2"] == 3.0
    assert len({row["key"] for row in reader.rows}) == len(reader)


def test_samples_hold_their_window_mirrored_where_they_say_so(
    encoded: tuple[Execution, ShardReader, EncodeSlice],
) -> None:
    _, reader, slice_ = encoded
    size, frames = slice_.window.size, slice_.window.num_frames
    flips = set()
    for position, row in enumerate(reader.rows):
        latents, _ = reader.read(position)
        assert latents.shape == (3, frames, size, size)
        bright, dark = (latents[..., size // 2 + 2 :], latents[..., : size // 2 - 2])
        if not row["flip"]:
            bright, dark = dark, bright
        first = round(row["window_start_us"] * 1e-6 * FPS)
        level = 80 + 20 * int(row["clip_id"][-1]) + first + np.arange(frames) * (FPS // slice_.window.fps)
        shown = (bright.mean(dim=(0, 2, 3)) + 1) * 127.5
        np.testing.assert_allclose(shown, level, atol=3)  # H.264 at crf 18, limited range
        assert dark.max() < -0.85
        flips.add(row["flip"])
    assert flips == {True, False}


def test_a_click_is_heard_at_its_time_plus_the_shift(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    _, reader, slice_ = encoded
    (grid,) = feature_grids(slice_.model.audio).values()
    assert (grid.hop_sec, grid.dim) == (0.01, 17)
    hop = grid.hop_sec
    margin, length = slice_.window.audio_margin_sec, float(slice_.window.duration_sec)
    heard: set[str] = set()
    for position, row in enumerate(reader.rows):
        audio = reader.read(position)[1]["mel"]
        assert audio.shape == (round((length + 2 * margin) / hop) + 1, grid.dim)
        expected = CLICK_SEC + SHIFTS[row["clip_id"]] - row["window_start_us"] * 1e-6
        if -margin + 0.05 < expected < length + margin - 0.05:
            loudest = int(audio[:, :-1].sum(dim=1).argmax()) * hop - margin
            # The burst lasts 5 ms and a hop 10 ms.
            assert loudest == pytest.approx(expected, abs=0.016)
            heard.add(row["clip_id"])
    assert heard == {"clip0", "clip1", "clip2", "clip4"}


def test_captions_are_embedded_once(encoded: tuple[Execution, ShardReader, EncodeSlice]) -> None:
    _, reader, _ = encoded
    assert reader.index["captions"] == ["", *(f"caption of clip{n}" for n in (0, 1, 2, 4))]
    (first, mask), (second, _) = reader.text("caption of clip0"), reader.text("caption of clip1")
    assert not torch.equal(first, second)
    # A byte is a token, and the sentence ends with one.
    assert (int(mask.sum()), mask.shape[0]) == (len("caption of clip0") + 1, first.shape[0])


def test_encoding_again_in_another_folder_gives_the_same_bytes(
    prepared: tuple[Workspace, dict[str, StageRecord]],
    encoded: tuple[Execution, ShardReader, EncodeSlice],
    tmp_path: Path,
) -> None:
    workspace, inputs = prepared
    first = workspace.resolve(encoded[0].record.payload)
    shutil.copytree(workspace.root, tmp_path / "other", ignore=shutil.ignore_patterns("encode"))
    other = Workspace.open(tmp_path / "other")
    torch.manual_seed(99)
    again = run((other, inputs), config(windows_per_clip=6))
    assert again.record.outputs == encoded[0].record.outputs
    second = other.resolve(again.record.payload)
    for name in again.record.outputs:
        assert (second / name).read_bytes() == (first / name).read_bytes()


def test_without_a_clip_to_train_on_nothing_is_written(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    row = {"clip_id": "a", "use": "dropped", "reasons": "silent", "weight": 1.0, "audio_shift_sec": 0.0}
    inputs = records(workspace, [write_clip(workspace, "a", 80)], [row])
    with pytest.raises(DataError, match="no clip is selected for pretraining; see the funnel"):
        run((workspace, inputs), config())


def test_the_samples_table_says_where_each_sample_lies(
    prepared: tuple[Workspace, dict[str, StageRecord]], encoded: tuple[Execution, ShardReader, EncodeSlice]
) -> None:
    folder = prepared[0].resolve(encoded[0].record.payload)
    rows = read_table(folder / "samples.parquet", SHARD_SAMPLES)
    ends = {shard["shard"]: shard["bytes"] for shard in encoded[1].index["shards"]}
    by_place = sorted(rows, key=lambda row: (row["shard"], row["offset"]))
    assert all(row["offset"] % 512 == row["size"] % 512 == 0 for row in rows)
    for before, after in pairwise(by_place):
        assert before["shard"] != after["shard"] or before["offset"] + before["size"] == after["offset"]
    assert all(row["offset"] + row["size"] <= ends[row["shard"]] for row in rows)

"""Shards are made once: what is finished is found again, what is not as asked for is made again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from soundstage.data.encode_plan import PlannedShard, plan_shards
from soundstage.data.encode_work import EncodeWork, make_shards
from soundstage.errors import DataError
from soundstage.stages import Workspace

from .encoding import config, write_clip


@pytest.fixture
def made(tmp_path: Path) -> tuple[list[PlannedShard], EncodeWork]:
    """Two shards of two samples, one clip each."""
    workspace = Workspace.open(tmp_path / "workspace")
    about = {"use": "pretrain", "weight": 1.0, "audio_shift_sec": 0.0}
    names = ("clip0", "clip1")
    chosen = [about | {"clip_id": name, "clip": write_clip(workspace, name, 80)} for name in names]
    slice_ = config(windows_per_clip=2, samples_per_shard=2)
    plans = plan_shards(chosen, slice_)
    work = EncodeWork(slice_, workspace, tmp_path / "encoders", tmp_path / "shards", made_with="these weights")
    assert sorted(shard.path.name for shard in make_shards(plans, work, workers=1)) == ["000000.tar", "000001.tar"]
    return plans, work


def written(folder: Path) -> dict[str, int]:
    """Shards by the file that they are now: another one takes its place when it is made again."""
    return {path.name: path.stat().st_ino for path in folder.glob("[0-9]*.tar")}


def remade(plans: list[PlannedShard], work: EncodeWork) -> set[str]:
    before = written(work.folder)
    bytes_before = {name: (work.folder / name).read_bytes() for name in before}
    shards = list(make_shards(plans, work, workers=1))
    for shard in shards:
        told = json.loads((work.folder / f"{shard.path.stem}.rows.json").read_text())
        assert (shard.entry, shard.rows) == (told["entry"], told["rows"])
        assert shard.entry["bytes"] == shard.path.stat().st_size
    after = written(work.folder)
    unchanged = {name for name in before if bytes_before[name] == (work.folder / name).read_bytes()}
    assert unchanged >= {name for name in before if before[name] == after[name]}
    return {name for name, inode in after.items() if before.get(name) != inode}


def test_finished_shards_are_not_made_again(made: tuple[list[PlannedShard], EncodeWork]) -> None:
    assert remade(*made) == set()


def halved(folder: Path) -> None:
    data = (folder / "000001.tar").read_bytes()
    (folder / "000001.tar").write_bytes(data[: len(data) // 2])


def flipped(folder: Path) -> None:
    data = bytearray((folder / "000001.tar").read_bytes())
    data[1000] ^= 1
    (folder / "000001.tar").write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        halved,
        flipped,
        lambda folder: (folder / "000001.tar").unlink(),
        lambda folder: (folder / "000001.rows.json").unlink(),
    ],
    ids=["halved", "flipped", "gone", "without rows"],
)
def test_a_shard_that_is_not_whole_is_made_again_with_the_same_bytes(
    made: tuple[list[PlannedShard], EncodeWork], spoil: Callable[[Path], None]
) -> None:
    plans, work = made
    before = {path.name: path.read_bytes() for path in work.folder.glob("[0-9]*")}
    spoil(work.folder)
    assert remade(plans, work) == {"000001.tar"}
    assert {path.name: path.read_bytes() for path in work.folder.glob("[0-9]*")} == before


def test_shards_of_other_weights_or_another_plan_are_made_again(made: tuple[list[PlannedShard], EncodeWork]) -> None:
    plans, work = made
    heavier = [plans[0], dataclasses.replace(plans[1], samples=plans[1].samples[:1])]
    assert remade(heavier, work) == {"000001.tar"}
    assert remade(heavier, dataclasses.replace(work, made_with="other weights")) == {"000000.tar", "000001.tar"}


def test_a_clip_that_cannot_be_decoded_is_named(made: tuple[list[PlannedShard], EncodeWork]) -> None:
    plans, work = made
    work.workspace.resolve("media/clip1.mp4").write_bytes(b"no video")
    (work.folder / "000001.tar").unlink()
    with pytest.raises(DataError, match="clip clip1 cannot be encoded: "):
        list(make_shards(plans, work, workers=1))

"""A run of encode that was killed goes on with what it had not finished, and gives the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from soundstage.config.slices import EncodeSlice
from soundstage.stages import Execution, StageRecord, Workspace

from .encoding import config, records, run, write_clip

CLIPS, WINDOWS, PER_SHARD = 16, 6, 4
RUN = """
import sys

from soundstage.stages import Workspace
from tests.unit.data.encoding import run
from tests.unit.data.test_encode_killed import slice_of

if __name__ == "__main__":
    workspace = Workspace.open(sys.argv[1])
    inputs = {name: workspace.current(stage) for name, stage in (("clips", "split"), ("selection", "select"))}
    run((workspace, inputs | {"curator": workspace.current("curator")}), slice_of(workers=2))
"""
REPOSITORY = Path(__file__).parents[3]


def slice_of(workers: int) -> EncodeSlice:
    buckets = "[{num_frames: 6, size: 16, width: 24}]"
    return config(f"encode.buckets={buckets}", windows_per_clip=WINDOWS, samples_per_shard=PER_SHARD, workers=workers)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, StageRecord]]:
    workspace = Workspace.open(tmp_path_factory.mktemp("killed") / "workspace")
    names = [f"clip{number:02d}" for number in range(CLIPS)]
    clips = [write_clip(workspace, name, 60 + 8 * number) for number, name in enumerate(names)]
    about: dict[str, Any] = {"use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
    return workspace, records(workspace, clips, [about | {"clip_id": name} for name in names])


@pytest.fixture(scope="module")
def whole(prepared: tuple[Workspace, dict[str, StageRecord]]) -> Execution:
    """An undisturbed run in this process alone."""
    return run(prepared, slice_of(workers=1))


def finished(scratch: Path) -> dict[str, os.stat_result]:
    """Shards whose rows are written, by name."""
    return {path.name[:6]: (scratch / f"{path.name[:6]}.tar").stat() for path in scratch.glob("[0-9]*.rows.json")}


def kill_in_the_middle(workspace: Workspace, scratch: Path, log: Path) -> None:
    """Start a run of two processes in a session of its own, kill its parent, and wait until nothing of it is left."""
    script = workspace.root.parent / "run.py"
    script.write_text(RUN)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, script, workspace.root],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
            stdout=stream,
            stderr=stream,
        )
    while process.poll() is None and len(finished(scratch)) < 3:
        time.sleep(0.002)
    assert process.poll() is None, f"the run ended before it could be killed: {log.read_text()}"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while _lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(process.pid), "processes of a killed run end by themselves"


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    prepared: tuple[Workspace, dict[str, StageRecord]], whole: Execution, tmp_path: Path
) -> None:
    workspace, _ = prepared
    payload = workspace.resolve(whole.record.payload)
    scratch = payload.with_name(f".{payload.name}.scratch") / "shards"
    kill_in_the_middle(workspace, scratch, tmp_path / "log")
    kept = finished(scratch)  # made by two processes, and found by work for one: their number is no other work
    shards = whole.record.counts["shards"]
    assert shards == len(list((payload / "shards").glob("*.tar"))) >= 20
    assert 3 <= len(kept) < shards
    # One shard is altered while nobody looks, and one is left as a process that is killed leaves it.
    altered, torn, *_ = sorted(kept)
    data = bytearray((scratch / f"{altered}.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (scratch / f"{altered}.tar").write_bytes(data)
    (scratch / f"{torn}.rows.json").unlink()
    resumed = run(prepared, slice_of(workers=1))
    assert resumed.record.outputs == whole.record.outputs
    assert resumed.record.counts == whole.record.counts
    assert not scratch.exists()
    after = {name: (payload / "shards" / f"{name}.tar").stat() for name in kept}
    made_again = {name for name in kept if after[name].st_ino != kept[name].st_ino}
    assert made_again == {altered, torn}
    assert all(after[name].st_mtime_ns == kept[name].st_mtime_ns for name in kept.keys() - made_again)

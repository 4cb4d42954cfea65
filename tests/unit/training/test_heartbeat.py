"""Which rank is named when a job stands still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundstage.training.heartbeat import Watch, beat, forget, read_beat


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_rank_that_moves_is_left_alone_and_one_that_stopped_is_named_with_its_step(
    tmp_path: Path, clock: Clock
) -> None:
    watch = Watch(tmp_path, 2, 60.0, clock)
    beat(tmp_path, 1, 4)
    for step in range(4, 12):
        beat(tmp_path, 0, step)
        clock.now += 10
        said = watch.hung()
        if said:
            break
    stopped = read_beat(tmp_path, 1)
    assert stopped is not None
    assert said == f"rank 1 has not moved for 60 s: last at step 4 (process {stopped.pid} on {stopped.host})"


def test_a_rank_that_never_begins_counts_from_the_launch(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 3, 60.0, clock)
    clock.now += 59
    beat(tmp_path, 0, 0)
    beat(tmp_path, 2, 0)
    assert watch.hung() is None
    clock.now += 20
    assert watch.hung() == "rank 1 has not begun to train 79 s after the launch"


def test_of_several_the_one_that_fell_behind_comes_first_whatever_clocks_say(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 3, 60.0, clock)
    # Rank 1 has loaded no batch for its next step; the others have, and wait for it.
    for rank in (0, 1, 2):
        left_by(tmp_path, rank, step=7, count=15 if rank == 1 else 16, at=99.0 if rank == 1 else 5.0)
    clock.now += 10
    assert watch.hung() is None
    clock.now += 60
    said = watch.hung()
    assert said is not None
    assert said.startswith("rank 1 has not moved for 60 s: last at step 7 (process 71 on node-1)")
    assert said.endswith("; 2 more came further and stand still too: 0, 2")


def test_ranks_that_stand_at_the_same_place_are_named_together(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 12, 60.0, clock)
    clock.now += 70
    assert watch.hung() == "ranks 0, 1, 2, 3, 4, 5, 6, 7, ... have not begun to train 70 s after the launch"


def left_by(scratch: Path, rank: int, **told: float) -> None:
    """The beat of a process on another host."""
    beat(scratch, rank, 0)
    path = scratch / "heartbeats" / f"rank{rank:04d}.json"
    path.write_text(json.dumps({"rank": rank, "pid": 70 + rank, "host": f"node-{rank}"} | told))


def test_every_beat_counts(tmp_path: Path) -> None:
    beat(tmp_path, 0, 3)
    first = read_beat(tmp_path, 0)
    beat(tmp_path, 0, 3)
    second = read_beat(tmp_path, 0)
    assert first is not None
    assert second is not None
    assert (second.step, second.count) == (3, first.count + 1)


def test_time_in_a_queue_does_not_count(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 1, 60.0, clock)
    clock.now += 1000
    watch.rest()
    assert watch.hung() is None
    clock.now += 59
    assert watch.hung() is None
    clock.now += 10
    assert watch.hung() is not None


def test_beats_of_an_earlier_launch_are_forgotten(tmp_path: Path) -> None:
    beat(tmp_path, 0, 9)
    forget(tmp_path)
    forget(tmp_path)
    assert read_beat(tmp_path, 0) is None

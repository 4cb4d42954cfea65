"""Which rank is named when a job stands still."""

from __future__ import annotations

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


def test_of_several_the_one_that_stopped_first_comes_first(tmp_path: Path, clock: Clock) -> None:
    watch = Watch(tmp_path, 3, 60.0, clock)
    for rank, step in ((0, 7), (1, 6), (2, 7)):
        beat(tmp_path, rank, step)
    clock.now += 10
    assert watch.hung() is None
    clock.now += 60
    said = watch.hung()
    assert said is not None
    assert said.startswith("rank 1 has not moved for 60 s: last at step 6 ")
    assert said.endswith("; 2 more since, waiting for it or hung too: 0, 2")


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

"""What the follower makes of how a job ends; the launcher is scripted, files are real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from soundstage.errors import TrainingError, TrainingStopped
from soundstage.stages import NullTracker
from soundstage.training import heartbeat
from soundstage.training.follow import follow
from soundstage.training.job import TrainingJob
from soundstage.training.metrics import MetricsWriter

from .makers import job_in, train_slice


class Scripted:
    """A launcher whose every look at the job runs the next part of a script."""

    name = "a script"

    def __init__(self, *script: Callable[[], int | None], waits: int = 0) -> None:
        self._script, self._waits = list(script), waits
        self.ended = self.killed = False

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def poll(self) -> int | None:
        return self._script.pop(0)()

    def is_running(self) -> bool:
        self._waits -= 1
        return self._waits < 0

    def kill(self) -> None:
        self.killed = True

    def last_words(self) -> str:
        return "rank 3 fell"


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    made = job_in(tmp_path, train_slice("launcher.hang_sec=0.8"), tmp_path / "shards", None)
    made.scratch.mkdir()
    return made


def stop(job: TrainingJob, code: int) -> int:
    (job.scratch / "stopped.json").write_text('{"step": 7, "resumable": true}')
    return code


@pytest.mark.parametrize("code", [0, 1], ids=["ranks asked", "torchrun asked"])
def test_a_job_that_was_asked_to_stop_is_neither_complete_nor_failed(job: TrainingJob, code: int) -> None:
    launcher = Scripted(lambda: stop(job, code))
    with pytest.raises(
        TrainingStopped, match=r"backbone was asked to stop .* after step 7 of .* again goes on"
    ) as caught:
        follow(job, launcher, NullTracker())
    assert caught.value.exit_code == 7
    assert launcher.ended


def test_a_job_that_stopped_was_started_again_and_came_through_is_complete(job: TrainingJob) -> None:
    def stop_for_a_while() -> None:
        stop(job, 0)

    def finish() -> int:
        (job.out / "curves.json").write_text("{}")
        return 0

    follow(job, Scripted(stop_for_a_while, finish), NullTracker())


def test_a_mark_of_an_earlier_launch_says_nothing_of_this_one(job: TrainingJob) -> None:
    stop(job, 0)
    follow(job, Scripted(lambda: 0), NullTracker())
    assert not (job.scratch / "stopped.json").exists()


def test_a_failure_quotes_the_last_words_and_the_log(job: TrainingJob) -> None:
    (job.scratch / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n{"step": 4')
    with pytest.raises(TrainingError, match="ended with exit code 5 after step 3: rank 3 fell") as caught:
        follow(job, Scripted(lambda: 5), NullTracker())
    assert str(job.scratch / "log.txt") in str(caught.value)


def test_a_resumed_run_reports_the_steps_that_it_does_again(job: TrainingJob) -> None:
    class Kept(NullTracker):
        def __init__(self) -> None:
            self.losses: list[tuple[int, float]] = []

        def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
            self.losses.append((step, metrics["loss"]))

    def write(*losses: float) -> None:
        with MetricsWriter(job.metrics, 0, 0) as metrics:
            for step, loss in enumerate(losses, start=1):
                metrics.write(step=step, loss=loss)

    tracker = Kept()
    write(1.0, 2.0, 3.0)  # by a run that was killed before its first checkpoint
    follow(job, Scripted(lambda: None, lambda: write(4.0), lambda: write(4.0, 5.0) or 0, waits=9), tracker)
    assert tracker.losses == [(1, 1.0), (2, 2.0), (3, 3.0), (1, 4.0), (2, 5.0)]


def test_a_hung_rank_is_killed_but_not_while_the_job_waits_for_its_turn(job: TrainingJob) -> None:
    heartbeat.beat(job.scratch, 0, 9)  # of an earlier launch
    launcher = Scripted(*[lambda: None] * 7, waits=3)
    with pytest.raises(TrainingError, match=r"was ended \(a script\) .*: rank 0 has not begun to train 1 s after"):
        follow(job, launcher, NullTracker())
    assert launcher.killed
    # Three looks in the queue, then as many as fill the limit; without the rest it would have been the second.
    assert len(launcher._script) == 7 - 5

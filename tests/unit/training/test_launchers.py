"""What the local launcher and the follower report of real processes, and that none is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from soundstage.config.tree import LauncherConfig
from soundstage.errors import TrainingError
from soundstage.stages import NullTracker
from soundstage.training.follow import follow
from soundstage.training.heartbeat import read_beat
from soundstage.training.job import TrainingJob
from soundstage.training.launchers.local import LocalLauncher

from .makers import job_in, train_slice

WORKER = "tests.unit.training.tiny_worker"


class FromFirstBeat(LocalLauncher):
    """Counts as running when all ranks have begun, so that a short hang limit need not cover their start."""

    scratch: Path

    def is_running(self) -> bool:
        return all(read_beat(self.scratch, rank) for rank in range(2))


def launcher_of(job: TrainingJob, monkeypatch: pytest.MonkeyPatch, does: str) -> FromFirstBeat:
    monkeypatch.setenv("TINY_WORKER", does)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    job.scratch.mkdir(parents=True)
    job.save(job.scratch / "job.json")
    made = FromFirstBeat(job.scratch / "job.json", job.config.launcher, job.scratch / "log.txt", WORKER)
    made.scratch = job.scratch
    return made


def job_of_two(root: Path, **launcher: float) -> TrainingJob:
    overrides = [f"launcher.{name}={value}" for name, value in launcher.items()]
    return job_in(root, train_slice("launcher.ranks=2", *overrides), root / "shards", None)


def left_over(job: TrainingJob) -> list[psutil.Process]:
    mine = [process for process in psutil.process_iter(["cmdline"]) if _runs(process, job)]
    _, alive = psutil.wait_procs(mine, timeout=5)
    return alive


def _runs(process: psutil.Process, job: TrainingJob) -> bool:
    return str(job.scratch / "job.json") in (process.info["cmdline"] or [])


def test_a_killed_rank_ends_the_job_with_its_name_and_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of_two(tmp_path, hang_sec=600)
    with pytest.raises(TrainingError) as caught:
        follow(job, launcher_of(job, monkeypatch, "killed"), NullTracker())
    dead = read_beat(job.scratch, 1)
    assert dead is not None
    assert f"ended with exit code 1 after step 0: rank 1 (process {dead.pid}) was killed by signal 9 (SIGKILL)" in str(
        caught.value
    )
    assert not left_over(job)


def test_a_hung_rank_ends_the_job_with_its_name_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of_two(tmp_path, hang_sec=3)
    with pytest.raises(TrainingError) as caught:
        follow(job, launcher_of(job, monkeypatch, "hung"), NullTracker())
    message, hung = str(caught.value), read_beat(job.scratch, 1)
    assert hung is not None
    assert "was ended (2 processes of this host) after step 0: rank 1 has not moved for " in message
    assert f"last at step 2 (process {hung.pid} on {hung.host})" in message
    # Where it stood is in the log, for whoever asks why.
    assert "in hung" in (job.scratch / "log.txt").read_text()
    assert not left_over(job)


def test_cancelling_waits_for_the_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cancels(NullTracker):
        """Leaves as the handler of SIGTERM does, as soon as training runs."""

        def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
            raise SystemExit(128 + signal.SIGTERM)

    job = job_of_two(tmp_path)
    with pytest.raises(SystemExit):
        follow(job, launcher_of(job, monkeypatch, "stopped"), Cancels())
    assert (job.scratch / "stopped.json").exists()
    assert [found.step for rank in range(2) if (found := read_beat(job.scratch, rank))] == [5, 5]
    assert "stopped after step 5; running it again goes on from there" in capsys.readouterr().out
    assert not left_over(job)


def test_leaving_early_ends_every_process(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    with LocalLauncher(tmp_path / "job.json", LauncherConfig(), tmp_path / "log.txt") as started:
        assert started._process is not None
        parent = psutil.Process(started._process.pid)
        time.sleep(0.3)
        family = [parent, *parent.children(recursive=True)]
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive

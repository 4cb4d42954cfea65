"""Follow a training job from the process that asked for it: progress, live metrics, and how it ended."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ..errors import TrainingError, TrainingStopped
from ..stages import Progress, Tracker
from .checkpoints import newest
from .heartbeat import Watch, forget
from .job import CURVES_FILE, TrainingJob
from .launchers.base import Launcher
from .launchers.choice import LOG_FILE, launcher_of
from .metrics import read_metrics
from .termination import STOPPED_FILE

_POLL_SEC = 0.5


def run_job(job: TrainingJob, tracker: Tracker, workspace: Path | None = None) -> list[dict[str, float]]:
    """Run `job` in processes of its own to its end; returns its metrics lines.

    `workspace` is the root of the workspace, for launchers whose processes see it at another path.

    Raises:
        ConfigError: the launcher cannot run this job.
        TrainingError: a rank failed, died or hung; it is named with its last words, and where to look further.
        TrainingStopped: somebody stopped the processes, and they saved a checkpoint first.
    """
    job.scratch.mkdir(parents=True, exist_ok=True)
    follow(job, launcher_of(job, workspace), tracker)
    tracker.log_artifact(job.metrics)
    return read_metrics(job.metrics)


def follow(job: TrainingJob, launcher: Launcher, tracker: Tracker) -> None:
    """Start `job` by `launcher` and see it through, as `run_job` says."""
    saved = newest(job.checkpoints)
    resumed = saved.steps if saved else 0
    if resumed:
        print(f"{job.stage}: resuming after step {resumed}", flush=True)
    # What an earlier launch left would be taken for this one's.
    forget(job.scratch)
    (job.scratch / STOPPED_FILE).unlink(missing_ok=True)
    try:
        with launcher, Progress(job.stage, job.config.train.steps, "step", initial=resumed) as progress:
            code = _Follower(job, launcher, tracker, progress, resumed).code()
    except (KeyboardInterrupt, SystemExit):
        stopped = _stopped_at(job)
        if stopped is not None:
            print(f"{job.stage}: stopped after step {stopped}; running it again goes on from there", flush=True)
        raise
    stopped = _stopped_at(job)
    if stopped is not None:
        raise TrainingStopped(
            f"{job.stage} was asked to stop and did so after step {stopped} of {job.config.train.steps}"
            f"{', with a checkpoint' if stopped else ''}; running the stage again goes on from there"
        )
    if code != 0:
        raise _failure(job, f"ended with exit code {code}", launcher.last_words())


class _Follower:
    """Looks at a job again and again until it ends."""

    def __init__(
        self, job: TrainingJob, launcher: Launcher, tracker: Tracker, progress: Progress, resumed: int
    ) -> None:
        self._job, self._launcher, self._tracker = job, launcher, tracker
        self._progress, self._resumed, self._seen = progress, resumed, 0
        self._shown: set[Path] = set()
        self._watch = Watch(job.scratch, job.config.launcher.ranks, job.config.launcher.hang_sec)

    def code(self) -> int:
        """The exit code of the job, when it has ended.

        Raises:
            TrainingError: a rank hung; the job was killed.
        """
        while True:
            time.sleep(_POLL_SEC)
            code = self._launcher.poll()
            self._report()
            if code is not None:
                return code
            if not self._launcher.is_running():
                self._watch.rest()
                continue
            hung = self._watch.hung()
            if hung is not None:
                self._launcher.kill()
                raise _failure(self._job, f"was ended ({self._launcher.name})", hung)

    def _report(self) -> None:
        lines = read_metrics(self._job.metrics)
        if len(lines) < self._seen:  # the run dropped what an earlier one had done after the checkpoint
            self._seen = len([line for line in lines if line["step"] <= self._resumed])
        for line in lines[self._seen :]:
            step = int(line["step"])
            self._tracker.log_metrics({name: value for name, value in line.items() if name != "step"}, step)
            if "loss" in line and step > self._resumed:
                self._progress.advance(note=f"loss {line['loss']:.4f}")
        self._seen = max(self._seen, len(lines))
        for path in sorted({*self._job.previews.glob("step*.mp4")} - self._shown):
            self._tracker.log_artifact(path, "previews")
            self._shown.add(path)


def _failure(job: TrainingJob, how: str, words: str) -> TrainingError:
    lines = read_metrics(job.metrics)
    step = int(lines[-1]["step"]) if lines else 0
    return TrainingError(
        f"{job.stage} {how} after step {step}: {words}\n"
        f"The whole log: {job.scratch / LOG_FILE}. Running the stage again resumes from its last checkpoint."
    )


def _stopped_at(job: TrainingJob) -> int | None:
    """The step after which the job stopped on request; None when it did not, or was started again and came through."""
    mark = job.scratch / STOPPED_FILE
    if not mark.exists() or (job.out / CURVES_FILE).exists():
        return None
    return int(json.loads(mark.read_text())["step"])

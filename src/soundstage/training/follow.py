"""Follow a training job from the process that asked for it: progress, live metrics, and its failure."""

from __future__ import annotations

import time

from ..errors import TrainingError
from ..stages import Progress, Tracker
from .job import TrainingJob
from .launchers.local import LocalLauncher
from .trainer import read_metrics

_POLL_SEC = 0.5


def run_job(job: TrainingJob, tracker: Tracker) -> list[dict[str, float]]:
    """Run `job` in processes of its own to its end; returns its metrics lines.

    Raises:
        TrainingError: a process failed; its last words are quoted, and where the job can resume from is named.
    """
    job.scratch.mkdir(parents=True, exist_ok=True)
    job_file, log = job.scratch / "job.json", job.scratch / "log.txt"
    job.save(job_file)
    resumed = _steps_in_checkpoint(job)
    if resumed:
        print(f"{job.stage}: resuming after step {resumed}", flush=True)
    seen = 0
    with (
        LocalLauncher(job_file, job.config.launcher.ranks, log) as launcher,
        Progress(job.stage, job.config.train.steps, "step", initial=resumed) as progress,
    ):
        code = None
        while code is None:
            time.sleep(_POLL_SEC)
            code = launcher.poll()
            lines = read_metrics(job.metrics)
            for line in lines[seen:]:
                _report(line, progress, tracker, resumed)
            seen = max(seen, len(lines))
        if code != 0:
            raise TrainingError(
                f"{job.stage} ended with exit code {code} after step {int(lines[-1]['step']) if lines else 0}: "
                f"{launcher.last_words()}\n"
                f"The whole log: {log}. Running the stage again resumes from its last checkpoint."
            )
    tracker.log_artifact(job.metrics)
    return read_metrics(job.metrics)


def _steps_in_checkpoint(job: TrainingJob) -> int:
    latest = job.checkpoints / "latest"
    return int(latest.read_text().strip().removeprefix("step")) if latest.exists() else 0


def _report(line: dict[str, float], progress: Progress, tracker: Tracker, resumed: int) -> None:
    step = int(line["step"])
    tracker.log_metrics({name: value for name, value in line.items() if name != "step"}, step)
    if "loss" in line and step > resumed:
        progress.advance(note=f"loss {line['loss']:.4f}")

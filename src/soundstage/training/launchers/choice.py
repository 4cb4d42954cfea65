"""The one place where a launcher is chosen."""

from __future__ import annotations

from pathlib import Path

from ..job import TrainingJob
from .base import Launcher
from .local import LocalLauncher

JOB_FILE, LOG_FILE = "job.json", "log.txt"


def launcher_of(job: TrainingJob, workspace: Path | None) -> Launcher:
    """The launcher that `launcher.kind` names; it has started nothing yet.

    `workspace` is the root of the workspace as this process sees it; a TrainJob needs it, since pods see it elsewhere.

    Raises:
        ConfigError: the job cannot be run there.
    """
    job_file, log = job.scratch / JOB_FILE, job.scratch / LOG_FILE
    config = job.config.launcher
    if config.kind == "local":
        job.save(job_file)
        return LocalLauncher(job_file, config, log)
    from .trainjob import TrainJobLauncher
    from .trainjob_manifest import seen_from_pods

    for_pods = seen_from_pods(job, workspace)
    for_pods.save(job_file)
    return TrainJobLauncher(for_pods, for_pods.scratch / JOB_FILE, log)

"""Entry of a training process: `python -m soundstage.training.worker JOB.json`, started once a rank."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import torch

from ..errors import SoundstageError
from .job import TrainingJob
from .trainer import train


def main(job_path: str) -> int:
    """Run the job; a known refusal prints its message alone and returns its exit code."""
    logging.basicConfig(level=logging.WARNING)
    job = TrainingJob.load(Path(job_path))
    launcher = job.config.launcher
    torch.set_num_threads(launcher.threads or max(1, (os.cpu_count() or 1) // launcher.ranks))
    try:
        train(job)
    except SoundstageError as error:
        print(f"soundstage: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

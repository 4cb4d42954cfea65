"""Entry of a training process: `python -m soundstage.training.worker JOB.json`, started once a rank."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from pathlib import Path

import torch

from ..errors import ConfigError, SoundstageError
from ..stages import code_version
from .job import TrainingJob
from .trainer import train

ENDS_WITH_STDIN = "SOUNDSTAGE_ENDS_WITH_STDIN"


def end_with_launcher() -> None:
    """End this process when its launcher is gone, however it went: standard input is a pipe that closes with it.

    Else a killed pipeline would leave a trainer behind, writing where the next run resumes.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(job_path: str) -> int:
    """Run the job; a known refusal prints its message alone, any other error its traceback too.

    The line that begins with `soundstage:` is what the launcher quotes: torchrun's own report buries the rest.
    """
    logging.basicConfig(level=logging.WARNING)
    if os.environ.get(ENDS_WITH_STDIN):
        end_with_launcher()
    job = TrainingJob.load(Path(job_path))
    launcher = job.config.launcher
    here = int(os.environ.get("LOCAL_WORLD_SIZE", launcher.ranks))  # of all ranks, those on this host
    torch.set_num_threads(launcher.threads or max(1, (os.cpu_count() or 1) // here))
    try:
        _refuse_other_code(job)
        train(job)
    except SoundstageError as error:
        _say(error)
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        _say(error)
        return 1
    return 0


def _refuse_other_code(job: TrainingJob) -> None:
    """The result is named by the code that asked for it, and an image may hold another."""
    here = code_version("soundstage.training.stages")
    if job.code and job.code != here:
        raise ConfigError(
            f"this process has code {here}, the job was asked for by code {job.code}: run the image of that version, "
            "or the pipeline from this one"
        )


def _say(error: Exception) -> None:
    text = " ".join(str(error).split())
    print(f"soundstage: {type(error).__name__}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

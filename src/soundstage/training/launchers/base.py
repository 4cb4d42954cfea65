"""What the follower needs of a launcher, and what all launchers give their processes.

How a request to stop reaches a checkpoint, whoever asks:

    scheduler --SIGTERM--> `soundstage train`, or user --Ctrl-C-->: an exception leaves the launcher's with-block
      local:    __exit__ --SIGTERM--> torchrun --SIGTERM--> ranks
      trainjob: __exit__ --DELETE---> API server; kubelet --SIGTERM--> torchrun of each pod --SIGTERM--> ranks
    ranks: finish the step, save a checkpoint, leave `stopped.json`, exit 0; torchrun itself then exits 1

torchrun kills ranks that take longer than $TORCH_ELASTIC_SHUTDOWN_TIMEOUT, a kubelet pods that take longer than their
grace period, and the local launcher what is left after `launcher.grace_sec`: the first two are set from the last. When
somebody else stops the processes (a drained node, a preemption), the follower finds `stopped.json` without outputs and
raises TrainingStopped. What starts `soundstage train` must allow it `launcher.grace_sec` and some seconds more.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Protocol, Self

from ...config.tree import LauncherConfig

EXIT_MARGIN_SEC = 10.0
"""What torchrun and a kubelet take to notice that the last rank is gone."""


class Launcher(Protocol):
    """Starts the processes of a job on entering its with-block; on leaving it they have ended, however it is left."""

    name: str
    """of what was started, for messages"""

    def __enter__(self) -> Self:
        """Start them."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs: ask for a checkpoint, wait, then kill."""

    def poll(self) -> int | None:
        """The exit code of the whole; None while it runs or waits for its turn."""

    def is_running(self) -> bool:
        """Whether its processes run now: a job in a queue is neither running nor hung."""

    def kill(self) -> None:
        """End it at once: a hung rank cannot save."""

    def last_words(self) -> str:
        """Which rank ended first and how, and what it said."""


def process_environment(config: LauncherConfig) -> dict[str, str]:
    """Variables of every training process."""
    return {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        # A rank that crashes, or is aborted because it hangs, prints where it stood.
        "PYTHONFAULTHANDLER": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(math.ceil(config.grace_sec)),
    }

"""Processes on this host, started by torchrun."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...config.tree import LauncherConfig
from .. import worker
from . import report
from .base import EXIT_MARGIN_SEC, process_environment

if TYPE_CHECKING:
    import psutil

_ABORT_SEC = 5.0


class LocalLauncher:
    """Runs a worker module on the job's ranks; leaving the with-block ends them, however it is left."""

    # By its module, not by a string: so the worker's code counts in the code version of the training stages.
    def __init__(self, job_file: Path, config: LauncherConfig, log: Path, module: str = worker.__name__) -> None:
        self._config, self._log, self._words = config, log, {module, str(job_file)}
        self._command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(config.ranks)),
            *("-m", module, str(job_file)),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.name = f"{config.ranks} processes of this host"

    def __enter__(self) -> LocalLauncher:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | process_environment(self._config) | {worker.ENDS_WITH_STDIN: "1"}
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                # Ctrl-C in a terminal reaches its whole process group: it is for this process, which asks for a
                # checkpoint, and torchrun must not hear of it twice.
                start_new_session=True,
            )
        return self

    def poll(self) -> int | None:
        """The exit code of torchrun, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def is_running(self) -> bool:
        """From the start."""
        return True

    def last_words(self) -> str:
        """What the processes said last: the first dead rank, and our own refusals or the end of the log."""
        return report.last_words([self._log.read_text(errors="replace")])

    def kill(self) -> None:
        """Abort the ranks, which makes them print where they stood, then end all that is left."""
        import psutil

        family = self._family()
        for process in family:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if not _is_torchrun(process):
                    # Where it stood is in the log; the memory of a training process fills a disk.
                    resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
                    process.send_signal(signal.SIGABRT)
        _, alive = psutil.wait_procs(family, _ABORT_SEC)
        self._end(alive)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import psutil

        process = self._process
        assert process is not None
        assert process.stdin is not None
        # Also when torchrun is gone: asked to stop twice it leaves its ranks behind, while they save.
        family = self._family()
        try:
            if process.poll() is None:
                process.terminate()  # torchrun passes it on to the ranks
            _, family = psutil.wait_procs(family, self._config.grace_sec + EXIT_MARGIN_SEC)
        finally:
            self._end(family)
            process.stdin.close()

    def _family(self) -> list[psutil.Process]:
        """torchrun, its ranks and what they have forked: all carry worker and job file in their command line."""
        import psutil

        found = psutil.process_iter(["cmdline"])
        return [item for item in found if self._words <= set(item.info["cmdline"] or []) and item.pid != os.getpid()]

    def _end(self, processes: list[psutil.Process]) -> None:
        import psutil

        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, EXIT_MARGIN_SEC)
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_MARGIN_SEC)


def _is_torchrun(process: psutil.Process) -> bool:
    return "torch.distributed.run" in process.cmdline()

"""Processes on this host, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from .. import worker

_GRACE_SEC = 15.0


class LocalLauncher:
    """Runs a worker module on `ranks` processes of this host; leaving the with-block ends them, however it is left."""

    def __init__(self, job_file: Path, ranks: int, log: Path) -> None:
        self._command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)),
            # By its module, not by a string: so the worker's code counts in the code version of the training stages.
            *("-m", worker.__name__, str(job_file)),
        ]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalLauncher:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment[worker.ENDS_WITH_STDIN] = "1"
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=environment
            )
        return self

    def poll(self) -> int | None:
        """The exit code, None while the job runs."""
        assert self._process is not None
        return self._process.poll()

    def last_words(self, lines: int = 15) -> str:
        """What the processes said last: our own refusals when there are any, each once, else the end of the log."""
        text = self._log.read_text(errors="replace").splitlines()
        own = [line.removeprefix("soundstage: ") for line in text if line.startswith("soundstage: ")]
        return "\n".join(dict.fromkeys(own)) if own else "\n".join(text[-lines:])

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        if process.poll() is not None:
            process.stdin.close()
            return
        process.terminate()  # torchrun passes it on to the ranks
        try:
            process.wait(_GRACE_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdin.close()

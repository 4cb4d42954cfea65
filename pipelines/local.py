"""The door to kfp's local runner: one pipeline run with its log, its cache and an orderly end."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, TextIO

GRACE_SEC = 180.0  # a training stage saves a checkpoint first: its launcher.grace_sec and a little more
LOG_FILE = "log.txt"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_MACHINERY = re.compile(
    r"-+$|\[KFP Executor [^]]*\]: "
    r"(Looking for component|Loading KFP component|Wrote executor output|(?P<input>Got executor_input))"
)


class TaskFailedError(Exception):
    """A task of the pipeline failed; `task` names it."""

    def __init__(self, task: str) -> None:
        super().__init__(f"pipeline task {task!r} failed")
        self.task = task


class Tee(io.TextIOBase):
    """Writes everything to a log file, and to the terminal what the stages say.

    kfp indents what tasks print, sets it apart by empty lines and rules, and its executor prints its whole input as
    JSON: indents and empty lines are taken back, the rest goes to the log alone.
    """

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal, self._log = terminal, log
        self._pending = ""
        self._in_executor_input = False

    def write(self, text: str) -> int:
        """Pass on whole lines that are not empty."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            plain = _ANSI.sub("", line).removeprefix("    ").rstrip()
            if plain:
                streams = [self._log] if self._is_machinery(plain) else [self._log, self._terminal]
                for stream in streams:
                    # Not print(): kfp replaces it while a task runs, to indent.
                    stream.write(plain + "\n")
                    stream.flush()
        return len(text)

    def _is_machinery(self, line: str) -> bool:
        if self._in_executor_input:
            self._in_executor_input = line != "}"
            return True
        found = _MACHINERY.match(line)
        self._in_executor_input = found is not None and found["input"] is not None
        return found is not None

    def writable(self) -> bool:
        """Text goes through."""
        return True

    def isatty(self) -> bool:
        """Whether the terminal behind it is one."""
        return self._terminal.isatty()

    def flush(self) -> None:
        """Flush both; a line that has not ended waits for its end."""
        self._terminal.flush()
        self._log.flush()


def run_training_pipeline(arguments: Mapping[str, str], root: Path, log_path: Path) -> None:
    """Run the training pipeline in subprocesses of this environment; standard output goes to `log_path`, too.

    Raises:
        TaskFailedError: a task failed; kfp tells its name and no cause.
        KeyboardInterrupt: SIGINT or SIGTERM came; all processes of the pipeline have ended.
    """
    with log_path.open("a", encoding="utf-8") as log:
        tee = Tee(sys.stdout, log)
        with _own_temporary_folder(), _children_end_first(), redirect_stdout(tee), _quiet():
            _run(arguments, root)


def cache_folder(root: Path) -> Path:
    """Folder of kfp's cache entries below the pipeline root."""
    return root / ".kfp_cache"


def forget_cache(root: Path) -> None:
    """Forget which tasks have run; the stages' own results stay."""
    shutil.rmtree(cache_folder(root), ignore_errors=True)


def _run(arguments: Mapping[str, str], root: Path) -> None:
    from kfp import local

    from .training.pipeline import training

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        cache_root=str(cache_folder(root)),
        enable_caching=True,
    )
    try:
        training(**arguments)
    except RuntimeError as error:
        task = re.search(r"Inner task failed: '([^']+)'", _ANSI.sub("", str(error)))
        if task is None:
            raise
        raise TaskFailedError(task.group(1)) from error


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Give the tasks a TMPDIR that goes away: kfp leaves one folder there for every task."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="soundstage-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence kfp's own progress lines, which show whole artifacts; stages print what matters."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _children_end_first() -> Iterator[None]:
    """On SIGINT or SIGTERM end the pipeline's processes, wait for them, then raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_children()
        # Exactly this class: subprocess.Popen waits at most a moment for its child when it sees it.
        raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_children() -> None:
    """Ask every process below this one to end, then end those that have not after a grace time."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        _ignoring_gone(child.terminate)
    _, alive = psutil.wait_procs(children, timeout=GRACE_SEC)
    for child in alive:
        _ignoring_gone(child.kill)
    psutil.wait_procs(alive, timeout=GRACE_SEC)


def _ignoring_gone(action: Any) -> None:
    import psutil

    try:
        action()
    except psutil.NoSuchProcess:
        return

"""Work on untrusted files in processes of their own: whatever a file does to its decoder, it costs that file alone."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_GIB = 2**30


@dataclass(frozen=True)
class WorkerFailure:
    """A task whose process ended without an answer."""

    reason: str
    """`timeout` or `crashed`"""
    detail: str
    pid: int


def run_isolated(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    *,
    workers: int,
    timeout_sec: float,
    memory_gib: float,
) -> Iterator[tuple[int, ResultT | WorkerFailure]]:
    """Yield (index of the task, result or failure) as tasks end, each task once.

    A process that dies or takes longer than `timeout_sec` over a task fails that task and is replaced. Its address
    space may grow by `memory_gib` over what it has before its first task (not enforced where /proc is absent).
    `function` must be importable by name: processes are spawned, never forked from one that may hold threads.

    Raises:
        RuntimeError: `function` raised, or a process could not start; the task is named.
    """
    waiting = list(enumerate(tasks))[::-1]
    pool: list[_Worker[TaskT, ResultT]] = []
    try:
        while waiting or pool:
            while waiting and len(pool) < workers:
                pool.append(_Worker(function, memory_gib))
                pool[-1].give(*waiting.pop(), timeout_sec)
            _wait_for_any(pool)
            for worker in list(pool):
                answer = worker.answer()
                if answer is None:
                    continue
                if waiting and not isinstance(answer[1], WorkerFailure):
                    worker.give(*waiting.pop(), timeout_sec)
                else:
                    pool.remove(worker)
                    worker.stop()
                yield answer
    finally:
        for worker in pool:
            worker.stop()


def _wait_for_any(pool: Sequence[_Worker[Any, Any]]) -> None:
    deadline = min(worker.deadline for worker in pool)
    timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
    wait([worker.connection for worker in pool], timeout=timeout)


class _Worker(Generic[TaskT, ResultT]):
    """One process and the task it has."""

    def __init__(self, function: Callable[[TaskT], ResultT], memory_gib: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function, memory_gib), daemon=True)
        self._process.start()
        theirs.close()
        self._task: tuple[int, TaskT] | None = None
        self._ready = False
        self._timeout_sec = 0.0
        self.deadline = float("inf")

    def give(self, index: int, task: TaskT, timeout_sec: float) -> None:
        """Send a task; its time begins when the process is up."""
        self._task, self._timeout_sec = (index, task), timeout_sec
        self.deadline = time.monotonic() + timeout_sec if self._ready else float("inf")
        try:
            self.connection.send(task)
        except OSError:
            # It has died; answer() finds the closed pipe and says how.
            return

    def answer(self) -> tuple[int, ResultT | WorkerFailure] | None:
        """What has come of the task, None when nothing yet."""
        assert self._task is not None
        index, task = self._task
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            return index, WorkerFailure("timeout", f"took longer than {self._timeout_sec:g} s", self._pid)
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            return index, self._crash()
        if kind == "ready":
            self._ready, self.deadline = True, time.monotonic() + self._timeout_sec
            return None
        if kind == "error":
            raise RuntimeError(f"working on {task} raised:\n{value}")
        return index, value

    @property
    def _pid(self) -> int:
        return self._process.pid or 0

    def _crash(self) -> WorkerFailure:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if not self._ready:
            raise RuntimeError(f"a worker process {how} before its first task; see its messages above")
        return WorkerFailure("crashed", f"the decoding process {how}", self._pid)

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, function: Callable[[Any], Any], memory_gib: float) -> None:
    """Body of a worker process: answer tasks until the other end is gone."""
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(memory_gib)
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = ("result", function(task))
        except Exception:
            answer = ("error", traceback.format_exc())
        connection.send(answer)


def _limit_memory(memory_gib: float) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + int(memory_gib * _GIB)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

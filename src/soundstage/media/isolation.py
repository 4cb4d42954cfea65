"""Work on untrusted files in processes of their own: whatever a file does to its decoder, it costs that file alone."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..errors import DataError

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
    memory_gib: float | None,
    ahead: int = 1,
    setup: Callable[[], object] | None = None,
) -> Iterator[tuple[int, ResultT | WorkerFailure]]:
    """Yield (index of the task, result or failure) as tasks end, each task once.

    A process that dies or takes longer than `timeout_sec` over a task fails that task and is replaced. Its address
    space may grow by `memory_gib` over what it has before its first task (None, or where /proc is absent: no limit).
    `function` must be importable by name: processes are spawned, never forked from one that may hold threads.

    A process is given up to `ahead` tasks at once, so that it need not wait for the next one where tasks are short;
    the time of each begins when the one before has ended, and those behind a failed one go to other processes.
    Tasks in hand must fit into the pipe to it, 64 KiB at least. `setup` runs once in each process before its memory is
    measured and its first task's time begins: for a model that every task needs.

    Raises:
        DataError: `function` or `setup` raised it, with its words.
        RuntimeError: `function` raised anything else, naming the task; or a process could not start.
    """
    waiting = deque(enumerate(tasks))
    pool: list[_Worker[TaskT, ResultT]] = []
    try:
        while waiting or pool:
            while waiting and len(pool) < workers:
                pool.append(_Worker(function, memory_gib, setup, timeout_sec))
                pool[-1].give(waiting, ahead)
            _wait_for_any(pool)
            for worker in list(pool):
                answer = worker.answer()
                if answer is None:
                    continue
                if isinstance(answer[1], WorkerFailure):
                    waiting.extendleft(reversed(worker.unanswered()))
                else:
                    worker.give(waiting, ahead)
                if isinstance(answer[1], WorkerFailure) or not worker.busy:
                    pool.remove(worker)
                    worker.stop()
                yield answer
    finally:
        for worker in pool:
            worker.stop()


def in_order(answers: Iterable[tuple[int, ResultT]]) -> Iterator[ResultT]:
    """The answers of `run_isolated` in the order of its tasks; those that come early are held until their turn."""
    held: dict[int, ResultT] = {}
    turn = 0
    for index, answer in answers:
        held[index] = answer
        while turn in held:
            yield held.pop(turn)
            turn += 1


def _wait_for_any(pool: Sequence[_Worker[Any, Any]]) -> None:
    deadline = min(worker.deadline for worker in pool)
    timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
    wait([worker.connection for worker in pool], timeout=timeout)


class _Worker(Generic[TaskT, ResultT]):
    """One process and the tasks it has."""

    def __init__(
        self,
        function: Callable[[TaskT], ResultT],
        memory_gib: float | None,
        setup: Callable[[], object] | None,
        timeout_sec: float,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function, memory_gib, setup), daemon=True)
        self._process.start()
        theirs.close()
        self._tasks: deque[tuple[int, TaskT]] = deque()
        self._ready = False
        self._timeout_sec = timeout_sec
        self.deadline = float("inf")
        """when the first of its tasks has taken too long; its time begins when the process is up"""

    def give(self, waiting: deque[tuple[int, TaskT]], ahead: int) -> None:
        """Send tasks until there are `ahead` in its hands."""
        while waiting and len(self._tasks) < ahead:
            self._tasks.append(waiting.popleft())
            try:
                self.connection.send(self._tasks[-1][1])
            except OSError:
                # It has died; answer() finds the closed pipe and says how.
                return

    @property
    def busy(self) -> bool:
        """Whether it has a task."""
        return bool(self._tasks)

    def unanswered(self) -> list[tuple[int, TaskT]]:
        """Take back the tasks it has not come to."""
        tasks = list(self._tasks)
        self._tasks.clear()
        return tasks

    def answer(self) -> tuple[int, ResultT | WorkerFailure] | None:
        """What has come of its first task, None when nothing yet."""
        index, task = self._tasks[0]
        found = self._heard(task)
        if found is None:
            return None
        self._tasks.popleft()
        self.deadline = time.monotonic() + self._timeout_sec
        return index, found[0]

    def _heard(self, task: TaskT) -> tuple[ResultT | WorkerFailure] | None:
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            return (WorkerFailure("timeout", f"took longer than {self._timeout_sec:g} s", self._pid),)
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            return (self._crash(),)
        if kind == "ready":
            self._ready, self.deadline = True, time.monotonic() + self._timeout_sec
            return None
        if kind == "refusal":
            raise DataError(value)
        if kind == "error":
            raise RuntimeError(f"working on {task} raised:\n{value}")
        return (value,)

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


def _serve(
    connection: Connection,
    function: Callable[[Any], Any],
    memory_gib: float | None,
    setup: Callable[[], object] | None,
) -> None:
    """Body of a worker process: answer tasks until the other end is gone."""
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A decoder that crashes on each file of many must not leave its memory on the disk each time.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if setup is not None:
        prepared = _attempt(setup)
        if prepared[0] != "result":
            connection.send(prepared)
            return
    _limit_memory(memory_gib)
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(function, task))


def _attempt(function: Callable[..., Any], *tasks: object) -> tuple[str, Any]:
    try:
        return "result", function(*tasks)
    except DataError as error:
        return "refusal", str(error)
    except Exception:
        return "error", traceback.format_exc()


def _limit_memory(memory_gib: float | None) -> None:
    statm = Path("/proc/self/statm")
    if memory_gib is None or not statm.exists():
        return
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + int(memory_gib * _GIB)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

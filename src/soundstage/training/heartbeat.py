"""Signs of life of a job's ranks: each leaves a small file where its follower sees when it last moved.

heartbeats/rank0001.json   {"at": 1764025200.5, "count": 26, "host": "node-1", "pid": 71, "rank": 1, "step": 12}

A rank beats when it is ready to train, and again whenever it has come further: at the same places of the code as all
others. So the one that hangs has the fewest beats, where it hangs before the collective operation in which the others
wait for it; clocks of hosts may differ. Ranks that are equal in this are named together.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = "heartbeats"
_LOOKS_PER_HANG = 10
_NAMED = 8
_COUNT = itertools.count(1)


def beat(scratch: Path, rank: int, step: int) -> None:
    """Say that `rank` is alive and has done `step` steps."""
    path = _file(scratch, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    about = {"rank": rank, "pid": os.getpid(), "host": socket.gethostname()}
    about |= {"step": step, "count": next(_COUNT), "at": time.time()}
    # Not flushed to disk: nobody needs it after a crash, and a step must not wait for the disk.
    temporary.write_text(json.dumps(about, sort_keys=True))
    temporary.replace(path)


def forget(scratch: Path) -> None:
    """Remove the beats of an earlier launch."""
    # Not the folder: a job that is followed again goes on writing into it.
    for path in (scratch / FOLDER).glob("rank*.json"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Beat:
    """What a rank said last."""

    rank: int
    pid: int
    host: str
    step: int
    count: int
    """of the beats of its process, this one included"""
    at: float
    """seconds since the epoch by the clock of its host"""


def read_beat(scratch: Path, rank: int) -> Beat | None:
    """The last beat of `rank`; None when it has left none."""
    try:
        return Beat(**json.loads(_file(scratch, rank).read_text()))
    except FileNotFoundError:
        return None


class Watch:
    """Tells which ranks have not moved for too long, by this process's clock: clocks of other hosts may differ.

    Time counts from the launch, or from the last `rest`: loading a model must fit into `hang_sec` too.
    """

    def __init__(self, scratch: Path, ranks: int, hang_sec: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._scratch, self._hang_sec, self._clock = scratch, hang_sec, clock
        self._last: list[Beat | None] = [None] * ranks
        self._since = [clock()] * ranks
        self._looked = clock()

    def rest(self) -> None:
        """Nothing runs now (a queue, a restart): count from here."""
        self._since = [self._clock()] * len(self._since)

    def hung(self) -> str | None:
        """One sentence that names the ranks that have not moved for `hang_sec`; None while all of them move.

        The files are looked at ten times in that span, however often this is called.
        """
        now = self._clock()
        if now - self._looked < self._hang_sec / _LOOKS_PER_HANG:
            return None
        self._looked = now
        for rank, last in enumerate(self._last):
            found = read_beat(self._scratch, rank)
            if found != last:
                self._last[rank], self._since[rank] = found, now
        silent = [rank for rank, since in enumerate(self._since) if now - since >= self._hang_sec]
        return self._sentence(silent, now) if silent else None

    def _sentence(self, silent: list[int], now: float) -> str:
        least = min(self._progress(rank) for rank in silent)
        behind = [rank for rank in silent if self._progress(rank) == least]
        waiting = [rank for rank in silent if rank not in behind]
        last, quiet = self._last[behind[0]], round(now - self._since[behind[0]])
        who = f"rank {behind[0]} has" if len(behind) == 1 else f"ranks {_named(behind)} have"
        if last is None:
            words = f"{who} not begun to train {quiet} s after the launch"
        else:
            where = f" (process {last.pid} on {last.host})" if len(behind) == 1 else ""
            words = f"{who} not moved for {quiet} s: last at step {last.step}{where}"
        return words + (f"; {len(waiting)} more came further and stand still too: {_named(waiting)}" if waiting else "")

    def _progress(self, rank: int) -> tuple[int, int]:
        last = self._last[rank]
        return (-1, 0) if last is None else (last.step, last.count)


def _named(ranks: list[int]) -> str:
    return ", ".join(str(rank) for rank in ranks[:_NAMED]) + (", ..." if len(ranks) > _NAMED else "")


def _file(scratch: Path, rank: int) -> Path:
    return scratch / FOLDER / f"rank{rank:04d}.json"

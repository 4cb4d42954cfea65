"""A worker that trains nothing: ranks that beat, die, hang or stop on request, as $TINY_WORKER says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from soundstage.training.heartbeat import beat

RANK = int(os.environ["RANK"])


def wait_for_all(scratch: Path) -> None:
    while len(list(scratch.glob("heartbeats/rank*.json"))) < int(os.environ["WORLD_SIZE"]):
        time.sleep(0.05)


def killed(scratch: Path) -> None:
    """Rank 1 dies as by the kernel's hand; rank 0 says so as one that lost its peer would."""
    if RANK == 1:
        wait_for_all(scratch)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def hung(scratch: Path) -> None:
    """Rank 1 stops after two steps, deaf to SIGTERM; rank 0 goes on."""
    if RANK == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        beat(scratch, RANK, 2)
        time.sleep(600)
    for step in range(6000):
        beat(scratch, RANK, step + 3)
        time.sleep(0.1)


def stopped(scratch: Path) -> None:
    """Ranks save for a second when asked to stop, and rank 0 leaves the mark."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    beat(scratch, RANK, 1)
    if RANK == 0:
        wait_for_all(scratch)
        (scratch / "metrics.jsonl").write_text('{"step": 5, "loss": 1.0}\n')
    while not asked:
        time.sleep(0.05)
    time.sleep(1)
    beat(scratch, RANK, 5)
    if RANK == 0:
        (scratch / "stopped.json").write_text('{"step": 5, "resumable": true}')


if __name__ == "__main__":
    folder = Path(json.loads(Path(sys.argv[1]).read_text())["scratch"])
    if os.environ["TINY_WORKER"] != "stopped":
        beat(folder, RANK, 0)
    globals()[os.environ["TINY_WORKER"]](folder)

"""SIGTERM: what a scheduler says before it takes the machine away; training saves where it is and leaves."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..stages.files import write_json

STOPPED_FILE = "stopped.json"


class Termination:
    """Notes SIGTERM inside its with-block instead of dying of it; the training loop looks between steps.

    While outputs are being written it changes nothing: the job is done in a moment.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def mark_stopped(scratch: Path, steps: int) -> None:
    """Say that training stopped after `steps` steps because it was asked to, and can go on from there."""
    write_json(scratch / STOPPED_FILE, {"step": steps, "resumable": True})


def forget_stopped(scratch: Path) -> None:
    """Remove the mark of an earlier start: a job that Kubernetes started again has not stopped."""
    (scratch / STOPPED_FILE).unlink(missing_ok=True)

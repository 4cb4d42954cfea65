"""What follows a run through its process: SIGTERM as an exception, and the machine's load."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Literal

from .door import Place

Status = Literal["FINISHED", "FAILED", "KILLED"]
SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


def status_of(error: BaseException | None) -> Status:
    """How a run ended that raised `error`: an interrupt or exit is a cancellation, all else a failure."""
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"


def exit_on_sigterm() -> Callable[[], None]:
    """Turn SIGTERM into SystemExit, so that what is open gets closed; returns what puts the old handling back.

    A handler that somebody else has set stays; outside the main thread Python allows none.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return lambda: None
    signal.signal(signal.SIGTERM, _exit)

    def restore() -> None:
        if signal.getsignal(signal.SIGTERM) is _exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return restore


def _exit(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(SIGTERM_EXIT_CODE)


def follow_machine(place: Place, run_id: str) -> Callable[[], None]:
    """Sample processor, memory, disk, network and GPU every ten seconds into the run; returns what stops it.

    A run shorter than the interval gets no sample.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, tracking_uri=place.uri)
    monitor.start()
    return monitor.finish

"""Metrics of a running stage, sent from a thread of their own: logging a step must not cost a training step time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from .door import MAX_METRICS, MetricSample

_MAX_WAITING = 50_000


class MetricWriter:
    """Buffers metric values and sends them every few seconds, in the order they came.

    A part that could not be sent is kept and tried again with the next; MLflow drops a value it holds already, so a
    part sent twice is stored once. When nothing can be sent for long, the oldest values are dropped and counted.
    """

    def __init__(self, send: Callable[[list[MetricSample]], bool], every_sec: float = 2.0) -> None:
        """`send` stores a part and says whether it could; it must not raise."""
        self._send = send
        self._every = every_sec
        self._waiting: list[MetricSample] = []
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="soundstage-metrics", daemon=True)
        self._thread.start()

    def put(self, samples: Iterable[MetricSample]) -> None:
        """Queue values; returns at once."""
        with self._changed:
            self._waiting.extend(samples)
            excess = len(self._waiting) - _MAX_WAITING
            if excess > 0:
                del self._waiting[:excess]
                self._dropped += excess
            if self._is_full():
                self._changed.notify()

    def close(self, timeout_sec: float = 60.0) -> int:
        """Send what waits and stop; returns how many values could not be stored."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_sec)
        with self._changed:
            return self._dropped + len(self._waiting)

    def _run(self) -> None:
        closing, sent = False, True
        while not closing:
            with self._changed:
                # After a failure a full buffer is no reason to try again at once.
                self._changed.wait_for(self._may_send if sent else self._is_closing, self._every)
                closing = self._closing
            sent = self._drain()

    def _is_closing(self) -> bool:
        return self._closing

    def _may_send(self) -> bool:
        return self._closing or self._is_full()

    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_METRICS

    def _drain(self) -> bool:
        while True:
            with self._changed:
                part = self._waiting[:MAX_METRICS]
                dropped_before = self._dropped
            if not part:
                return True
            if not self._send(part):
                return False
            with self._changed:
                # While the part was on its way, `put` may have dropped its first values.
                gone = self._dropped - dropped_before
                del self._waiting[: max(0, len(part) - gone)]
                self._dropped -= min(gone, len(part))

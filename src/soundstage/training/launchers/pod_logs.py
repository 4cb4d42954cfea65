"""Logs of pods in one file as they grow, each line behind the name of its pod: `NAME| line`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from .cluster import Cluster, Outage, next_wait

_SEPARATOR = "| "
_OVERLAP_SEC = 30


@dataclass
class _Tail:
    """How far the log of a pod was read."""

    pod: str
    seen: str = ""
    """time of the last line, as the server wrote it"""
    heard: float | None = None
    """when that was, by our clock"""

    def since_sec(self) -> int | None:
        """How far back to read again; None for all."""
        return None if self.heard is None else int(time.monotonic() - self.heard) + _OVERLAP_SEC


class PodLogs:
    """Follows each pod in a thread; a broken stream is taken up where it broke."""

    def __init__(self, cluster: Cluster, path: Path, retry_sec: float) -> None:
        self._cluster, self._path, self._retry_sec = cluster, path, retry_sec
        self._threads: dict[str, threading.Thread] = {}
        self._open: set[Any] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def follow(self, pod: str) -> None:
        """Begin with `pod`, once."""
        if pod not in self._threads:
            self._threads[pod] = threading.Thread(target=self._follow, args=(pod,), daemon=True)
            self._threads[pod].start()

    def finish(self, seconds: float) -> None:
        """Wait up to `seconds` for pods that have ended to be read to their end, then stop reading."""
        end = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, end - time.monotonic()))
        self._over.set()
        with self._lock:
            for response in self._open:
                with suppress(Exception):  # it may have ended meanwhile, in as many ways as sockets have
                    response.shutdown()
        for thread in self._threads.values():
            thread.join(1.0)

    def texts(self) -> list[str]:
        """What each pod said so far, in the order in which they were first heard."""
        found: dict[str, list[str]] = {}
        for line in self._path.read_text(errors="replace").splitlines():
            pod, _, text = line.partition(_SEPARATOR)
            found.setdefault(pod, []).append(text)
        return ["\n".join(lines) for lines in found.values()]

    def _follow(self, pod: str) -> None:
        tail, wait = _Tail(pod), self._retry_sec
        while not self._over.is_set():
            with suppress(Outage):
                try:
                    self._read(tail)
                    wait = self._retry_sec
                except ConfigError:
                    pass  # refused: its container has not started (400), or it is gone (404)
                if self._cluster.has_ended(pod):
                    return
            self._over.wait(wait)
            wait = next_wait(wait)

    def _read(self, tail: _Tail) -> None:
        """Copy what lies behind the last line, until the stream ends or breaks."""
        behind, rest = tail.seen, b""
        with self._cluster.log(tail.pod, tail.since_sec()) as response, self._listening(response):
            for chunk in response.stream(decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    stamp, _, text = line.decode(errors="replace").partition(" ")
                    if stamp > behind:
                        self._write(tail.pod, text)
                        tail.seen, tail.heard = stamp, time.monotonic()

    @contextmanager
    def _listening(self, response: Any) -> Iterator[None]:
        with self._lock:
            self._open.add(response)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(response)

    def _write(self, pod: str, text: str) -> None:
        with self._lock:
            if not self._over.is_set():
                with self._path.open("a") as stream:
                    stream.write(f"{pod}{_SEPARATOR}{text}\n")

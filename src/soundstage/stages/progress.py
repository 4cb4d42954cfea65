"""Progress of long steps: a bar on a terminal, a line every few seconds elsewhere (pods, pipeline logs)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress:
    """Counts items of a long step; shows rate and remaining time.

    Used as a context manager: `with Progress("score", total=10, unit="clip") as progress: progress.advance()`.
    """

    def __init__(self, label: str, total: int, unit: str = "it", every_sec: float = 5.0, initial: int = 0) -> None:
        self._label, self._total, self._unit, self._every = label, total, unit, every_sec
        self._count = self._initial = initial
        self._start = self._last = time.monotonic()
        self._note = ""
        self._bar = (
            tqdm(total=total, desc=label, unit=unit, initial=initial, file=sys.stdout) if sys.stdout.isatty() else None
        )

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items; `note` (a loss, a file) is shown behind the rate."""
        self._count += count
        self._note = note or self._note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= self._every:
            self._print()

    def _print(self) -> None:
        self._last = time.monotonic()
        text = tqdm.format_meter(
            self._count,
            self._total,
            self._last - self._start,
            ncols=0,
            prefix=self._label,
            unit=self._unit,
            initial=self._initial,
            postfix=self._note or None,
        )
        print(text, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._print()


def track(items: Iterable[T], label: str, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate over `items`, showing progress."""
    with Progress(label, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()

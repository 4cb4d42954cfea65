"""The metrics file of a job: JSON lines that rank 0 writes and the launching process follows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TextIO


class MetricsWriter:
    """Appends lines; a resumed run drops those past its checkpoint. Ranks other than 0 write nothing."""

    def __init__(self, path: Path, rank: int, start: int) -> None:
        self._path, self._rank, self._start = path, rank, start
        self._stream: TextIO | None = None

    def __enter__(self) -> MetricsWriter:
        if self._rank == 0:
            kept = [line for line in read_metrics(self._path) if line["step"] <= self._start]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("w")
            for line in kept:
                self.write(**line)
        return self

    def write(self, **values: float) -> None:
        """Append one line."""
        if self._stream is not None:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            self._stream.write(json.dumps(finite) + "\n")
            self._stream.flush()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The whole lines of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]

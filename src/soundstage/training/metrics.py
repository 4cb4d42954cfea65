"""The metrics file of a job: JSON lines that rank 0 writes and the launching process follows."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import TextIO

from ..stages.files import write_text


class MetricsWriter:
    """Appends lines; a resumed run drops those past its checkpoint. Ranks other than 0 write nothing."""

    def __init__(self, path: Path, rank: int, start: int) -> None:
        self._path, self._rank, self._start = path, rank, start
        self._stream: TextIO | None = None

    def __enter__(self) -> MetricsWriter:
        if self._rank == 0:
            kept = [line for line in read_metrics(self._path) if line["step"] <= self._start]
            # Whole or not at all: a kill here must not cost the lines of what is in the checkpoint.
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
            self._stream = self._path.open("a")
        return self

    def write(self, **values: float) -> None:
        """Append one line."""
        if self._stream is not None:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            self._stream.write(json.dumps(finite) + "\n")
            self._stream.flush()

    def sync(self) -> None:
        """Wait until all lines are on disk, as they must be before a checkpoint that comes after them."""
        if self._stream is not None:
            os.fsync(self._stream.fileno())

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

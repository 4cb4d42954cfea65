"""The metrics file through kills and resumptions."""

from __future__ import annotations

import math
from pathlib import Path

from soundstage.training.metrics import MetricsWriter, read_metrics


def write(path: Path, start: int, steps: range, rank: int = 0) -> None:
    with MetricsWriter(path, rank, start) as metrics:
        for step in steps:
            metrics.write(step=step, loss=float(step), norm=math.nan)
        metrics.sync()


def test_a_resumed_run_keeps_the_lines_of_its_checkpoint_and_no_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "scratch" / "metrics.jsonl"
    assert read_metrics(path) == []
    write(path, 0, range(1, 6))
    with path.open("a") as stream:
        stream.write('{"step": 6, "lo')  # killed in the middle of a line
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5]
    write(path, 3, range(4, 8))
    assert read_metrics(path) == [{"step": step, "loss": float(step)} for step in range(1, 8)]
    assert [each.name for each in path.parent.iterdir()] == ["metrics.jsonl"]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", 0, range(1, 3), rank=1)
    assert list(tmp_path.iterdir()) == []

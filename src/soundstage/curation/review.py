"""Verdicts: the append-only ledger of what people decided, and the reviewer that demonstrations simulate.

The ledger is one file of the workspace and the proof of human effort: rows are appended, never changed. Simulated rows
never enter it; they live in the stage's snapshot only, with no time spent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import Config
from ..config.slices import ReviewSlice
from ..data.records import CLIPS, REVIEWS, SIGNALS, TRUTH, VERDICTS, read_table, write_arrow
from ..errors import DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import exclusive_lock, sha256_text
from ..stages.workspace import Workspace
from .queue import review_queue

SIMULATED = "simulated"
SIMULATED_AT = "1970-01-01T00:00:00Z"
"""No clock was read: a constant, so that the same configuration gives the same bytes."""

# Of two files with equal bytes ingestion keeps one; the planted copy that remains is a clean clip.
_CLEAN_DEFECTS = ("none", "duplicate")

Row = Mapping[str, Any]


def append_reviews(workspace: Workspace, rows: Sequence[Row]) -> None:
    """Append verdicts of people to the ledger; all of them or, on any error, none.

    Raises:
        DataError: a row that is no human verdict; the row and what is wrong with it are named.
    """
    for row in rows:
        _check(row)
    ledger = workspace.reviews
    with exclusive_lock(ledger.with_name(f".{ledger.name}.lock")):
        _write(ledger, [*read_reviews(workspace), *(dict(row) for row in rows)])


def read_reviews(workspace: Workspace) -> list[dict[str, Any]]:
    """All rows of the ledger in the order they were appended; none when nobody has reviewed yet."""
    return read_table(workspace.reviews, REVIEWS) if workspace.reviews.exists() else []


def ledger_digest(config: Config, workspace: Workspace) -> str:  # noqa: ARG001
    """Hash of the ledger's human rows: a new verdict makes the review stage run again."""
    rows = [row for row in read_reviews(workspace) if is_human(row)]
    return sha256_text(json.dumps(rows, sort_keys=True))


def is_human(row: Row) -> bool:
    """Whether a person gave this verdict."""
    return bool(row["reviewer"] != SIMULATED)


def effort(rows: Iterable[Row]) -> float:
    """Seconds people spent on these verdicts; simulated rows count nothing."""
    return math.fsum(row["seconds_spent"] for row in rows if is_human(row))


def latest_verdicts(rows: Iterable[Row]) -> dict[str, Row]:
    """The verdict that counts for each clip: people before simulation, then the latest, then the last appended."""
    latest: dict[str, Row] = {}
    for row in rows:
        other = latest.get(row["clip_id"])
        if other is None or _rank(row) >= _rank(other):
            latest[row["clip_id"]] = row
    return latest


def run(config: ReviewSlice, inputs: Inputs, work: Work) -> Outcome:
    """Write `reviews.parquet`: the ledger's rows about known clips, and simulated ones where configured.

    The simulated reviewer reads the truth table of the procedural world, keeps clips without a defect, and errs at the
    configured rate. Without a truth table it reviews nothing, and a note says so.
    """
    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    known = {clip["clip_id"] for clip in clips}
    ledger = [row for row in read_reviews(work.workspace) if is_human(row)]
    human = [row for row in ledger if row["clip_id"] in known]
    simulated: list[Row] = []
    reviewer = "people alone"
    if config.review.reviewer == "simulated":
        if "truth.parquet" in inputs["ingest"].outputs:
            simulated = _simulate(config, inputs, work, clips, {row["clip_id"] for row in human})
            reviewer = f"simulated from the truth table, wrong at rate {config.review.error_rate:g}"
        else:
            reviewer = "no truth table: nothing reviewed"
    rows = [*sorted(simulated, key=lambda row: str(row["clip_id"])), *human]
    _write(work.out / "reviews.parquet", rows)
    kept = sum(row["verdict"] == "keep" for row in latest_verdicts(rows).values())
    return Outcome(
        counts={
            "reviews": len(rows),
            "reviews_human": len(human),
            "reviews_simulated": len(simulated),
            "reviews_of_unknown_clips": len(ledger) - len(human),
            "clips_kept": kept,
            "human_seconds": round(effort(rows)),
        },
        notes={"reviewer": reviewer},
    )


def _simulate(config: ReviewSlice, inputs: Inputs, work: Work, clips: Sequence[Row], reviewed: set[str]) -> list[Row]:
    signals = read_table(work.workspace.output(inputs["signals"], "signals.parquet"), SIGNALS)
    truth = read_table(work.workspace.output(inputs["ingest"], "truth.parquet"), TRUTH)
    defects = {row["source_uri"]: row["defect"] for row in truth}
    waiting = [clip for clip in clips if clip["split"] == "pretrain" and clip["clip_id"] not in reviewed]
    queue = review_queue(waiting, {row["clip_id"]: row for row in signals}, config.select, config.window.duration_sec)
    chosen = queue[: config.review.clips]
    wrong = np.random.default_rng(config.review.seed).random(len(chosen)) < config.review.error_rate
    return [_simulated_row(clip, defects, bool(errs)) for clip, errs in zip(chosen, wrong, strict=True)]


def _simulated_row(clip: Row, defects: Mapping[str, str], errs: bool) -> Row:
    if clip["source_uri"] not in defects:
        raise DataError(
            f"clip {clip['clip_id']}: the truth table has no row for its source {clip['source_uri']}; "
            "rerun `soundstage ingest`, or set review.reviewer=none"
        )
    keep = (defects[clip["source_uri"]] in _CLEAN_DEFECTS) != errs
    verdict = "keep" if keep else "drop"
    return {
        "clip_id": clip["clip_id"],
        "verdict": verdict,
        "reviewer": SIMULATED,
        "seconds_spent": 0.0,
        "at": SIMULATED_AT,
    }


def _check(row: Row) -> None:
    problems = []
    if set(row) != set(REVIEWS.names):
        problems.append(f"columns {sorted(row)}, expected {sorted(REVIEWS.names)}")
    elif row["verdict"] not in VERDICTS:
        problems.append(f"verdict {row['verdict']!r}, expected one of {', '.join(VERDICTS)}")
    elif not row["clip_id"] or not row["reviewer"] or not is_human(row):
        problems.append(f"clip {row['clip_id']!r} by reviewer {row['reviewer']!r}, expected a clip and a person's name")
    elif not (math.isfinite(row["seconds_spent"]) and row["seconds_spent"] >= 0):
        problems.append(f"seconds_spent {row['seconds_spent']!r}, expected a finite number not below 0")
    elif not _is_utc(row["at"]):
        problems.append(f"at {row['at']!r}, expected ISO 8601 in UTC like 2030-01-31T12:00:00Z")
    if problems:
        raise DataError(f"review row of clip {row.get('clip_id')!r} is not appended to the ledger: {problems[0]}")


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except (TypeError, ValueError):
        return False


def _rank(row: Row) -> tuple[bool, datetime]:
    return is_human(row), datetime.fromisoformat(row["at"])


def _write(path: Path, rows: Sequence[Row]) -> None:
    # Not `write_table`: it sorts, and here the order of appending is part of the record.
    write_arrow(path, pa.Table.from_pylist([dict(row) for row in rows], schema=REVIEWS))

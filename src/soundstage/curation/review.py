"""Verdicts: the append-only ledger of what people decided, and the reviewer that demonstrations simulate.

Verdicts are `keep`, `drop`, and `shift`: keep with the offset correction stated. The ledger is one file of the
workspace and the proof of human effort: rows are appended, never changed. Simulated rows never enter it; they live in
the stage's snapshot only, with no time spent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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

# Of two files with equal bytes ingestion keeps one; a copy that remains is a clean clip, and so is a periodic one.
_CLEAN_DEFECTS = ("none", "duplicate", "near_duplicate", "periodic")

KEEPS = ("keep", "shift")
"""Verdicts that send a clip to stage two."""

_COLUMNS_BEFORE_SHIFT = ["clip_id", "verdict", "reviewer", "seconds_spent", "at"]

Row = Mapping[str, Any]


def append_reviews(workspace: Workspace, rows: Sequence[Row]) -> None:
    """Append verdicts of people to the ledger; all of them or, on any error, none.

    Raises:
        DataError: a row that is no human verdict; the row and what is wrong with it are named.
    """
    append_new(workspace, rows, lambda ledger: rows)  # noqa: ARG005


def append_new(
    workspace: Workspace, rows: Sequence[Row], choose: Callable[[Sequence[Row]], Sequence[Row]]
) -> list[dict[str, Any]]:
    """Append what `choose` takes of `rows`, given the ledger as it is while nobody else can write it; return that.

    Raises:
        DataError: as `append_reviews`; then nothing is appended.
    """
    for row in rows:
        check_verdict(row)
    with exclusive_lock(workspace.reviews.with_name(f".{workspace.reviews.name}.lock")):
        ledger = read_reviews(workspace)
        new = [dict(row) for row in choose(ledger)]
        if new:
            _write(workspace.reviews, [*ledger, *new])
    return new


def read_reviews(workspace: Workspace) -> list[dict[str, Any]]:
    """All rows of the ledger in the order they were appended; none when nobody has reviewed yet.

    A ledger from before `shift` could be said lacks the column of its offset; its rows are read as they are, and the
    next one appended writes them all with that column, empty.

    Raises:
        DataError: the file is damaged or has columns that no version of the ledger had.
    """
    path = workspace.reviews
    if not path.exists():
        return []
    try:
        is_old = pq.read_schema(path).names == _COLUMNS_BEFORE_SHIFT
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"the ledger {path} cannot be read as Parquet: {error}; restore it from its last version (`dvc checkout`)"
        ) from error
    if is_old:
        old: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return [row | {"audio_shift_sec": None} for row in old]
    return read_table(path, REVIEWS)


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
    kept = sum(row["verdict"] in KEEPS for row in latest_verdicts(rows).values())
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
        "audio_shift_sec": None,
    }


def check_verdict(row: Row) -> None:
    """Check that a row of REVIEWS is a verdict of a person.

    Raises:
        DataError: it is not; what was found and what was expected are named.
    """
    problem = _problem(row)
    if problem:
        raise DataError(f"review row of clip {row.get('clip_id')!r} is not appended to the ledger: {problem}")


def _problem(row: Row) -> str:
    if set(row) != set(REVIEWS.names):
        return f"columns {sorted(row)}, expected {sorted(REVIEWS.names)}"
    if row["verdict"] not in VERDICTS:
        return f"verdict {row['verdict']!r}, expected one of {', '.join(VERDICTS)}"
    if not row["clip_id"] or not row["reviewer"] or not is_human(row):
        return f"clip {row['clip_id']!r} by reviewer {row['reviewer']!r}, expected a clip and a person's name"
    if not (math.isfinite(row["seconds_spent"]) and row["seconds_spent"] >= 0):
        return f"seconds_spent {row['seconds_spent']!r}, expected a finite number not below 0"
    if not _is_utc(row["at"]):
        return f"at {row['at']!r}, expected ISO 8601 in UTC like 2030-01-31T12:00:00Z"
    shift = row["audio_shift_sec"]
    if row["verdict"] == "shift" and (shift is None or not math.isfinite(shift)):
        return f"audio_shift_sec {shift!r}, expected the seconds to add to audio time, like -0.3"
    if row["verdict"] != "shift" and shift is not None:
        return f"audio_shift_sec {shift!r} with verdict {row['verdict']}, expected it with `shift` alone"
    return ""


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

"""Labelled samples: which clips are known to be good, by people's verdicts, by a table, or by a planted truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..data.records import VERDICTS
from ..errors import DataError
from .review import is_human, latest_verdicts
from .review_sheet import read_cells

Row = Mapping[str, Any]

_GOOD_DEFECTS = ("none", "duplicate", "near_duplicate", "periodic")


def labels_of_reviews(reviews: Iterable[Row]) -> dict[str, str]:
    """Verdict by clip id: of each clip the verdict of a person that counts."""
    human = [row for row in reviews if is_human(row)]
    return {clip_id: str(row["verdict"]) for clip_id, row in latest_verdicts(human).items()}


def labels_of_truth(truth: Iterable[Row], clips: Iterable[Row]) -> dict[str, str]:
    """Verdict by clip id as the truth table of the procedural world implies it.

    A file without a defect (copies of clean files and periodic events are none) is `keep`, one whose sound is shifted
    is `shift`, any other is `drop`. A shifted file whose offset nobody can tell is left out: no verdict on it is right.
    """
    verdicts = {row["source_uri"]: _verdict(row) for row in truth}
    return {clip["clip_id"]: verdict for clip in clips if (verdict := verdicts.get(clip["source_uri"], "")) in VERDICTS}


def _verdict(truth: Row) -> str:
    if truth["defect"] == "shifted":
        return "shift" if truth["offset_identifiable"] else ""
    return "keep" if truth["defect"] in _GOOD_DEFECTS else "drop"


def labels_of_table(path: Path, known: Iterable[str]) -> dict[str, str]:
    """Verdict by clip id from a CSV file with the columns clip_id and verdict; rows without a verdict are left out.

    Raises:
        DataError: no such table; an unknown clip, another verdict, or two verdicts on one clip, by line.
    """
    known, labels = set(known), dict[str, str]()
    for line, cells in read_cells(path, ("clip_id", "verdict")):
        clip_id, verdict = cells["clip_id"].removeprefix("'"), cells["verdict"].lower()
        if not verdict:
            continue
        if clip_id not in known:
            raise DataError(f"{path} line {line}: clip_id {clip_id!r} is no clip of this workspace")
        if verdict not in VERDICTS:
            raise DataError(f"{path} line {line}: verdict {verdict!r}, expected {', '.join(VERDICTS)}")
        if labels.setdefault(clip_id, verdict) != verdict:
            raise DataError(f"{path} line {line}: clip {clip_id} has two verdicts; expected one a clip")
    return labels

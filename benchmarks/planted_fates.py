"""What became of every file of a procedural world, told by the records of the stages and the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soundstage.data.records import CLIPS, REJECTS, SELECTION, SIGNALS, TRUTH, read_table
from soundstage.stages import StageRecord, Workspace

TOLERANCE_SEC = 0.08
"""How far picture and sound may lie apart after selection and still count as aligned."""

_NOT_ALIGNED = ("silent", "still", "cut", "swapped")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Fate:
    """One file: what was planted, and what ingestion, the signals and selection said of it."""

    world: str
    truth: Row
    is_held_out: bool
    """its class is one that the learned scorer was not trained on"""
    reject: str
    """reason of ingestion; empty when it became a clip"""
    detail: str
    clip_id: str
    reasons: tuple[str, ...]
    """why selection dropped it; empty when it is kept or was rejected before"""
    shift_sec: float
    signals: Row | None

    @property
    def defect(self) -> str:
        """The planted kind; `none` for clean files."""
        return str(self.truth["defect"])

    @property
    def late_sec(self) -> float:
        """By how much its sound is late."""
        return float(self.truth["audio_shift_sec"])

    @property
    def is_identifiable(self) -> bool:
        """Whether its events tell one offset only."""
        return bool(self.truth["offset_identifiable"])

    @property
    def is_kept(self) -> bool:
        """Whether selection uses it."""
        return not self.reject and not self.reasons

    @property
    def is_aligned(self) -> bool:
        """Whether it would be, or is, in sync with the offset correction that selection gave it.

        Periodic events are in sync at every multiple of their gap.
        """
        if self.defect in _NOT_ALIGNED:
            return False
        apart = self.late_sec + self.shift_sec
        if self.defect == "periodic":
            times = json.loads(self.truth["event_times_sec"])
            gap = (times[-1] - times[0]) / (len(times) - 1)
            apart -= gap * round(apart / gap)
        return abs(apart) <= TOLERANCE_SEC + 1e-9

    @property
    def is_wanted(self) -> bool:
        """Whether a perfect curation keeps it: in sync, or with an offset that can be told and so corrected."""
        return self.defect == "none" or (self.defect == "shifted" and self.is_identifiable)

    def untouched(self) -> Fate:
        """The same file where everything that can be decoded is kept as it is."""
        reject = self.reject if self.defect in ("broken", "too_short") else ""
        return replace(self, reject=reject, reasons=(), shift_sec=0.0)


def read_fates(
    world: str, workspace: Workspace, records: Mapping[str, StageRecord], held_out: Iterable[str]
) -> list[Fate]:
    """One Fate a file of the world, in the order of their names.

    Raises:
        AssertionError: a file that became neither one clip nor one reject.
    """

    def table(stage: str, name: str, schema: Any) -> list[dict[str, Any]]:
        return read_table(workspace.output(records[stage], name), schema)

    clips = {row["source_uri"]: row for row in table("split", "clips.parquet", CLIPS)}
    rejects = {row["source_uri"]: row for row in table("ingest", "rejects.parquet", REJECTS)}
    signals = {row["clip_id"]: row for row in table("score", "signals.parquet", SIGNALS)}
    selection = {row["clip_id"]: row for row in table("select", "selection.parquet", SELECTION)}
    truth = table("ingest", "truth.parquet", TRUTH)
    assert len(clips) + len(rejects) == len(truth), "files were lost, or cut into several clips"
    assert len(clips) == len(selection) == len(signals), "clips were lost"
    unseen, fates = set(held_out), []
    for row in truth:
        clip, reject = clips.get(row["source_uri"]), rejects.get(row["source_uri"])
        clip_id = clip["clip_id"] if clip else ""
        chosen = selection[clip_id] if clip else None
        fates.append(
            Fate(
                world=world,
                truth=row,
                is_held_out=row["label"] in unseen,
                reject=reject["reason"] if reject else "",
                detail=reject["detail"] if reject else "",
                clip_id=clip_id,
                reasons=tuple(chosen["reasons"].split(",")) if chosen and chosen["use"] == "dropped" else (),
                shift_sec=chosen["audio_shift_sec"] if chosen else 0.0,
                signals=signals[clip_id] if clip else None,
            )
        )
    return _copies_in_their_place(fates, {row["clip_id"]: row["duplicate_of"] for row in clips.values()})


def _copies_in_their_place(fates: list[Fate], stands_for: Mapping[str, str]) -> list[Fate]:
    """Exchange what became of a copy and of its original where the original was dropped in favour of the copy.

    Of two files that are the same ingestion or selection keeps one, by rules that cannot know which was there first.
    """
    place = {fate.truth["source_uri"]: index for index, fate in enumerate(fates)}
    for index, fate in enumerate(fates):
        if fate.defect not in ("duplicate", "near_duplicate"):
            continue
        other = place[fate.truth["original"]]
        copy, original = fates[index], fates[other]
        named = original.reject == "exact_duplicate" and copy.clip_id and copy.clip_id in original.detail
        clustered = "near_duplicate" in original.reasons and stands_for.get(original.clip_id) == copy.clip_id
        if named or clustered:
            fates[index] = replace(original, truth=copy.truth)
            fates[other] = replace(copy, truth=original.truth)
    return fates


def planted_path(root: Path, fate: Fate) -> str:
    """Where the file lies, relative to `root`, for a person who wants to look at it."""
    found = sorted(root.glob(f"{fate.world}/world/*/{fate.truth['source_uri']}"))
    return found[-1].relative_to(root).as_posix() if found else str(fate.truth["source_uri"])

"""The report's second part: every source accounted for, and what became of each planted defect."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..curation import rules
from ..data.records import CLIPS, REJECTS, SELECTION, TRUTH, USES, read_table
from ..stages import StageRecord, Workspace

Row = Mapping[str, Any]

FUNNEL_PAGE = "funnel.html"

MEANINGS: dict[str, str] = {
    "not_media": "no video container",
    "damaged": "opens, but does not decode to its end",
    "no_video": "no video stream",
    "no_audio": "no audio stream",
    "too_short": "shorter than the configured minimum",
    "too_long": "longer than the configured maximum",
    "too_large": "frames larger than the configured maximum",
    "exact_duplicate": "the same bytes as a clip that was kept",
    "timeout": "decoding took too long",
    "crashed": "the decoding process died on it",
    "missing": "named by a table, but not there",
    "unreachable": "its store or server did not give it",
    "unsafe_name": "its name leads out of the table's folder, or is an address of a kind that is not read",
    "no_caption": "neither caption nor label says what it shows",
    "bad_span": "a part is wanted that the source does not have",
    **rules.MEANINGS,
}


@dataclass(frozen=True)
class Loss:
    """Items that one step turned away for one reason."""

    step: Literal["ingest", "select"]
    reason: str
    meaning: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Funnel:
    """How many items each step got, turned away and passed on."""

    sources: int
    sources_rejected: int
    clips: int
    losses: list[Loss]
    kept: dict[str, int]
    corrected: int
    page: str = ""
    """file of example strips and distributions, relative to the workspace"""

    @property
    def dropped(self) -> int:
        """Clips that selection dropped."""
        return sum(loss.count for loss in self.losses if loss.step == "select")

    @property
    def selected(self) -> int:
        """Clips with a use."""
        return sum(self.kept.values())


def read_funnel(workspace: Workspace, records: Mapping[str, StageRecord]) -> Funnel:
    """Counts of ingestion and selection."""
    counts = records["ingest"].counts
    selection = json.loads(workspace.output(records["select"], "funnel.json").read_text())
    prefix = "reject_"
    rejects = {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix) and n}
    losses = [Loss("ingest", reason, MEANINGS.get(reason, ""), n) for reason, n in sorted(rejects.items())]
    losses += [
        Loss("select", reason, MEANINGS.get(reason, ""), item["count"], tuple(item["examples"]))
        for reason, item in sorted(selection["dropped"].items())
    ]
    rejected = counts["sources"] - counts["sources_kept"] if "sources_kept" in counts else sum(rejects.values())
    kept = {use: selection["kept"][use] for use in USES if selection["kept"].get(use)}
    page = f"manifests/select/{FUNNEL_PAGE}" if FUNNEL_PAGE in records["select"].outputs else ""
    return Funnel(counts["sources"], rejected, counts["clips"], losses, kept, int(selection.get("corrected", 0)), page)


Outcome = Literal["ingest", "signals", "reviewer", "corrected", "kept", "set_aside"]
OUTCOMES: tuple[Outcome, ...] = ("ingest", "signals", "reviewer", "corrected", "kept", "set_aside")


@dataclass(frozen=True)
class DefectRow:
    """What became of the files with one planted defect; `clean` stands for files without any."""

    defect: str
    planted: int
    outcomes: Mapping[str, int]
    """files by outcome; their sum is `planted`"""
    details: list[tuple[str, int]]

    @property
    def is_clean(self) -> bool:
        """Whether keeping these files is right."""
        return self.defect == "clean"

    @property
    def may_be_kept(self) -> bool:
        """Whether keeping them is no mistake: periodic sound is aligned, though nothing tells its offset."""
        return self.is_clean or self.defect == "periodic"


def planted_defects(workspace: Workspace, records: Mapping[str, StageRecord]) -> list[DefectRow]:
    """Fate of every file of the procedural world by its planted defect; empty for sources without a truth table."""
    ingest, select = records["ingest"], records["select"]
    if "truth.parquet" not in ingest.outputs:
        return []
    truth = read_table(workspace.output(ingest, "truth.parquet"), TRUTH)
    settings = select.config.get("select")
    tolerance = float(settings["offset_tolerance_sec"]) if isinstance(settings, dict) else 0.0
    split = records["split"]
    # Near-duplicates are found when the clips are split.
    known = split if "clips.parquet" in split.outputs else ingest
    book = _Book(
        clips=read_table(workspace.output(known, "clips.parquet"), CLIPS),
        rejects=read_table(workspace.output(ingest, "rejects.parquet"), REJECTS),
        selection=read_table(workspace.output(select, "selection.parquet"), SELECTION),
        tolerance_sec=tolerance,
    )
    fates: dict[str, list[tuple[Outcome, str]]] = {}
    for row in truth:
        fates.setdefault(row["defect"], []).append(book.fate(row))
    # Planted defects first, in the order of their names; the clean files, a control, last.
    names = [name for name in sorted(fates) if name != "none"] + ["none"] * ("none" in fates)
    return [_defect_row("clean" if name == "none" else name, fates[name]) for name in names]


def _defect_row(name: str, fates: Sequence[tuple[Outcome, str]]) -> DefectRow:
    outcomes = Counter(outcome for outcome, _ in fates)
    details = Counter(text for _, text in fates)
    ordered = sorted(details.items(), key=lambda item: (-item[1], item[0]))
    return DefectRow(name, len(fates), {outcome: outcomes[outcome] for outcome in OUTCOMES}, ordered)


class _Book:
    """Looks up what ingestion and selection did with a source file."""

    def __init__(
        self, clips: Iterable[Row], rejects: Iterable[Row], selection: Iterable[Row], tolerance_sec: float
    ) -> None:
        self._selection = {row["clip_id"]: row for row in selection}
        self._clips: dict[str, list[str]] = {}
        self._stands_for: dict[str, str] = {}
        """clip of a near-duplicate cluster -> the clip that stands for it"""
        for clip in clips:
            self._clips.setdefault(clip["source_uri"], []).append(clip["clip_id"])
            if clip["duplicate_of"] in self._selection:
                self._stands_for[clip["clip_id"]] = clip["duplicate_of"]
        self._rejects = {row["source_uri"]: row for row in rejects}
        # A rejected copy names the clip that was kept in its place.
        self._twin = {
            uri: [clip_id for clip_id in re.findall(r"[0-9a-f]{64}", row["detail"]) if clip_id in self._selection]
            for uri, row in self._rejects.items()
            if row["reason"] == "exact_duplicate"
        }
        self._kept_of_twins = {clip_id for ids in self._twin.values() for clip_id in ids}
        self._tolerance = tolerance_sec

    def fate(self, truth: Row) -> tuple[Outcome, str]:
        """What became of one file, and how to say it.

        Of two equal files ingestion keeps the first by name, and of near-equal clips selection keeps one, which may be
        the planted copy: the pair then counts as caught, and the clean file lives on through its copy.
        """
        uri, defect = truth["source_uri"], truth["defect"]
        if defect == "duplicate" and self._kept_of_twins.intersection(self._clips.get(uri, ())):
            return "ingest", "exact_duplicate (its original rejected in its place)"
        clips = self._clips.get(uri, [])
        if defect == "near_duplicate" and self._replaces(clips, truth["original"]):
            return "signals", "near_duplicate (its original dropped in its place)"
        if defect == "none" and uri in self._twin:
            clips = self._twin[uri]
        if defect == "none":
            clips = [self._stands_for.get(clip, clip) for clip in clips]
        if not clips:
            return "ingest", self._rejects[uri]["reason"] if uri in self._rejects else "no clip, no reject"
        # A file cut into several clips counts by the one that came furthest.
        return max((self._fate_of_clip(truth, self._selection[c]) for c in clips), key=lambda f: _FURTHEST[f[0]])

    def _replaces(self, clips: Sequence[str], original: str) -> bool:
        """Whether one of `clips` stands for a clip of the source `original`."""
        return any(self._stands_for.get(clip) in clips for clip in self._clips.get(original, ()))

    def _fate_of_clip(self, truth: Row, selected: Row) -> tuple[Outcome, str]:
        if selected["use"] == "dropped":
            reason = selected["reasons"].split(",")[0]
            return _OUTCOME_OF_REASON.get(reason, "signals"), reason
        shift, late = selected["audio_shift_sec"], truth["audio_shift_sec"]
        if shift == 0:
            return "kept", f"used for {selected['use']}"
        if truth["defect"] == "shifted" and abs(late + shift) <= self._tolerance:
            return "corrected", f"offset corrected to within {self._tolerance:.2f} s"
        return "kept", f"used for {selected['use']} with a wrong offset correction"


_OUTCOME_OF_REASON: dict[str, Outcome] = {
    "rejected_by_reviewer": "reviewer",
    "judge_split": "set_aside",
    "class_full": "set_aside",
}
_FURTHEST: dict[Outcome, int] = {
    "ingest": 0,
    "set_aside": 1,
    "reviewer": 2,
    "signals": 3,
    "corrected": 4,
    "kept": 5,
}

"""The tables of `planted.py`: what is found of every planted kind, how sync is judged, what selection keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from planted_fates import TOLERANCE_SEC, Fate
from planted_figures import NOTHING, Figure, Stratum, area, proportion, weighted_share

from soundstage.synth.plan import DEFECTS, MIXES

Fates = Sequence[Fate]
Test = Callable[[Fate], bool]

DETECTED: dict[str, Test] = {
    "silent": lambda fate: "silent" in fate.reasons,
    "still": lambda fate: "still" in fate.reasons,
    "cut": lambda fate: "cut" in fate.reasons,
    "too_short": lambda fate: fate.reject == "too_short",
    "broken": lambda fate: fate.reject in ("damaged", "not_media"),
    "duplicate": lambda fate: fate.reject == "exact_duplicate",
    "near_duplicate": lambda fate: "near_duplicate" in fate.reasons,
    "swapped": lambda fate: "unsynced" in fate.reasons,
}
"""What counts as finding a kind. `swapped` has a recall only: shifted files are `unsynced` with equal right."""

TARGETS = dict.fromkeys(("silent", "still", "cut", "too_short", "broken", "duplicate"), 0.98) | {"near_duplicate": 0.95}


@dataclass
class Table:
    """Rows of text under a title, and the same for JSON."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)

    def add(self, name: str, *cells: str | Figure, **values: object) -> None:
        """One row; its figures are kept under `name`."""
        self.rows.append((name, *(str(cell) for cell in cells)))
        figures = {
            title: cell.as_dict() for title, cell in zip(self.head[1:], cells, strict=True) if isinstance(cell, Figure)
        }
        self.values[name] = figures | values

    def __str__(self) -> str:
        """Markdown."""
        lines = ["| " + " | ".join(row) + " |" for row in (self.head, *self.rows)]
        return "\n".join([f"\n{self.title}", "", lines[0], "|" + " --- |" * len(self.head), *lines[1:]])


def mix_weights(mix: str) -> dict[str, float]:
    """Share of every kind, clean files included, in a mix."""
    shares = MIXES[mix]
    return {"none": 1.0 - sum(shares.values())} | shares


def by_kind(fates: Fates) -> dict[str, list[Fate]]:
    """The fates of every planted kind and of clean files."""
    return {kind: [fate for fate in fates if fate.defect == kind] for kind in ("none", *DEFECTS)}


def _is_of(kind: str) -> Test:
    return lambda fate: fate.defect == kind


def _share(
    mix: str, kinds: Mapping[str, Fates], counted: Test, inside: Test, ever_inside: set[str] | None = None
) -> Figure:
    """Of the files of a mix that are `counted`, the share that is also `inside`; only `ever_inside` kinds can be."""
    strata = {}
    for kind, fates in kinds.items():
        hits = [fate for fate in fates if counted(fate)]
        within = sum(inside(fate) for fate in hits)
        may = ever_inside is None or kind in ever_inside
        strata[kind] = Stratum(len(fates), within, len(hits) - within, may, ever_inside is None or not may)
    return weighted_share(mix_weights(mix), strata)


def detection(fates: Fates) -> Table:
    """Recall and precision of every kind that has a reason of its own, and how much of it is left."""
    head = (
        "kind",
        "recall",
        "precision, mild",
        "precision, harsh",
        "precision, as planted",
        "left, mild",
        "left, harsh",
        "goal",
    )
    table = Table("Planted kinds and their reasons (left: share of what is kept, before > after selection)", head)
    kinds = by_kind(fates)
    for kind, is_found in DETECTED.items():
        found = [fate for fate in fates if is_found(fate)]
        recall = proportion(sum(map(is_found, kinds[kind])), len(kinds[kind]))
        if kind == "swapped":
            table.add(kind, recall, "", "", "", *_left(kind, kinds), "")
            continue
        precisions = [
            _share(mix, kinds, is_found, _is_of(kind), {kind}) if kind in MIXES[mix] else NOTHING for mix in MIXES
        ]
        as_planted = proportion(sum(fate.defect == kind for fate in found), len(found))
        values = [figure.value for figure in (recall, *precisions, as_planted) if figure.value is not None]
        met = bool(values) and min(values) >= TARGETS[kind]
        goal = f"{TARGETS[kind]:.2f} {'met' if met else 'NOT met'}"
        table.add(kind, recall, *precisions, as_planted, *_left(kind, kinds), goal, goal_met=met)
    return table


def _left(kind: str, kinds: Mapping[str, Fates]) -> list[str]:
    cells = []
    for mix in MIXES:
        before = MIXES[mix].get(kind, 0.0)
        after = _share(mix, kinds, lambda fate: fate.is_kept, _is_of(kind), {kind}).value
        cells.append(f"{before:.2%} > {after:.2%}" if before and after is not None else "-")
    return cells


def selection(fates: Fates) -> Table:
    """What is kept at the thresholds of the preset, weighted to each mix, beside keeping everything."""
    table = Table(
        f"Selection (aligned: within {1000 * TOLERANCE_SEC:.0f} ms; yield: of clean files and of shifted ones with an "
        "identifiable offset)",
        ("mix", "aligned share of what is kept", "yield", "keeping everything: aligned share", "its yield"),
    )
    kinds = by_kind(fates)
    untouched = by_kind([fate.untouched() for fate in fates])
    for mix in MIXES:
        figures = [
            figure
            for each in (kinds, untouched)
            for figure in (
                _share(mix, each, lambda fate: fate.is_kept, lambda fate: fate.is_aligned),
                _share(mix, each, lambda fate: fate.is_wanted, lambda fate: fate.is_kept and fate.is_aligned),
            )
        ]
        table.add(mix, *figures)
    return table


def losses(fates: Fates) -> Table:
    """Counts of what became of every kind."""
    table = Table(
        "What became of every kind (files)", ("kind", "planted", "kept aligned", "kept not aligned", "turned away")
    )
    for kind, each in by_kind(fates).items():
        reasons: dict[str, int] = {}
        for fate in each:
            for reason in (fate.reject, *fate.reasons[:1]):
                if reason:
                    reasons[reason] = reasons.get(reason, 0) + 1
        aligned = sum(fate.is_kept and fate.is_aligned for fate in each)
        kept = sum(fate.is_kept for fate in each)
        said = ", ".join(f"{name} {count}" for name, count in sorted(reasons.items(), key=lambda item: -item[1]))
        table.add(
            kind,
            str(len(each)),
            str(aligned),
            str(kept - aligned),
            said,
            turned_away=reasons,
            kept=kept,
            aligned=aligned,
            planted=len(each),
        )
    return table


LEARNED = "learned scorer"
SCORES: dict[str, tuple[str, str, str]] = {
    LEARNED: ("sync_score", "synchronisability", "sync_offset_sec"),
    "correlation of events (no learning)": ("av_correlation", "av_confidence", "av_offset_sec"),
}
"""Columns for: in sync as placed, in sync at one offset, the offset."""


def _values(fates: Fates, column: str) -> list[float]:
    return [fate.signals[column] for fate in fates if fate.signals and fate.signals[column] is not None]


def synchrony(fates: Fates) -> Table:
    """Areas under curves: clips in sync with an identifiable offset against swapped, shifted and periodic ones."""
    head = (
        "scorer, classes",
        "against swapped and shifted",
        "against swapped",
        "against shifted",
        "against periodic",
        "goal",
    )
    table = Table("Sync, area under the curve (clips with an identifiable offset; all swapped ones)", head)
    for name, (score, single, _) in SCORES.items():
        for classes in ("seen", "held out"):
            some = [fate for fate in fates if fate.is_held_out == (classes == "held out")]
            kinds = by_kind([fate for fate in some if fate.is_identifiable or fate.defect in ("swapped", "periodic")])
            true, swapped, shifted = (_values(kinds[kind], score) for kind in ("none", "swapped", "shifted"))
            both = area(true, swapped + shifted)
            periodic = area(_values(kinds["none"], single), _values(kinds["periodic"], single))
            goal = 0.95 if classes == "seen" else 0.85
            said = (
                "" if both.value is None or name != LEARNED else f"{goal} {'met' if both.value >= goal else 'NOT met'}"
            )
            table.add(f"{name}, {classes}", both, area(true, swapped), area(true, shifted), periodic, said)
    return table


def offsets(fates: Fates) -> Table:
    """How well the offsets of shifted clips are told, and whether periodic ones are taken for what they are."""
    table = Table(
        "Offsets of shifted clips that are identifiable",
        ("by", f"within {1000 * TOLERANCE_SEC:.0f} ms", "median error in ms", "90 % of errors under, ms"),
    )
    shifted = [fate for fate in fates if fate.defect == "shifted" and fate.is_identifiable and fate.signals]
    for name, (_, _, column) in SCORES.items():
        errors = [
            fate.signals[column] - fate.late_sec
            for fate in shifted
            if fate.signals and fate.signals[column] is not None
        ]
        _add_offsets(table, name, errors)
    _add_offsets(table, "selection, of those it keeps", [-(f.late_sec + f.shift_sec) for f in shifted if f.is_kept])
    return table


def _add_offsets(table: Table, name: str, errors: Sequence[float]) -> None:
    if not errors:
        table.add(name, NOTHING, "-", "-")
        return
    sizes = np.abs(errors)
    close = proportion(int(np.sum(sizes <= TOLERANCE_SEC + 1e-9)), len(sizes))
    table.add(name, close, f"{1000 * np.median(errors):+.0f}", f"{1000 * np.percentile(sizes, 90):.0f}")


def periodic(fates: Fates, threshold: float = 0.5) -> Table:
    """The share of clips that are taken for synchronisable, periodic ones beside irregular ones."""
    table = Table(f"Taken for synchronisable (synchronisability of at least {threshold})", ("clips", "share"))
    kinds = by_kind(fates)
    clean = [fate for fate in kinds["none"] if fate.is_identifiable]
    for name, some in (("clean, identifiable", clean), ("periodic", kinds["periodic"])):
        values = _values(some, "synchronisability")
        table.add(name, proportion(sum(value >= threshold for value in values), len(values)))
    return table

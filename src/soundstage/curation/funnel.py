"""The funnel in numbers: how many clips were kept for what, how many dropped for which reason, in all and per class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..config.tree import SelectConfig
from ..data.records import SIGNALS, USES
from .rules import REASONS, threshold_field

_EXAMPLES = 5
_BINS = 40
_NO_LABEL = "(no label)"

Row = Mapping[str, Any]


def make_funnel(rows: Sequence[Row], clips: Mapping[str, Row]) -> dict[str, Any]:
    """{"clips", "dropped": {reason: {"count", "examples"}}, "kept": {use: count}, "corrected", "per_class"}.

    `rows` are those of the selection, `clips` by clip id. A clip with several reasons is counted under its first, so
    that clips = dropped + kept; the same holds within each class of `per_class`, {label: {use or reason: count}}.
    """
    dropped: dict[str, list[str]] = {reason: [] for reason in REASONS}
    per_class: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        fate = fate_of(row)
        if row["use"] == "dropped":
            dropped[fate].append(row["clip_id"])
        per_class[clips[row["clip_id"]]["label"] or _NO_LABEL][fate] += 1
    uses = Counter(row["use"] for row in rows)
    kept = {use: uses[use] for use in USES if use != "dropped"}
    assert len(rows) == sum(len(found) for found in dropped.values()) + sum(kept.values()), "a clip was lost"
    return {
        "clips": len(rows),
        "dropped": {
            reason: {"count": len(found), "examples": sorted(found)[:_EXAMPLES]}
            for reason, found in dropped.items()
            if found
        },
        "kept": kept,
        "corrected": sum(row["audio_shift_sec"] != 0 for row in rows),
        "per_class": {label: dict(sorted(found.items())) for label, found in sorted(per_class.items())},
    }


def fate_of(row: Row) -> str:
    """The use of a selection's row, or the first reason it was dropped for."""
    return str(row["reasons"].split(",")[0] if row["use"] == "dropped" else row["use"])


def describe(funnel: Mapping[str, Any]) -> str:
    """The funnel in one line."""
    dropped = ", ".join(f"{reason} {item['count']}" for reason, item in funnel["dropped"].items()) or "none"
    kept = ", ".join(f"{use} {count}" for use, count in funnel["kept"].items())
    return f"{funnel['clips']} clips; dropped: {dropped}; kept: {kept}"


def counts(funnel: Mapping[str, Any]) -> dict[str, int]:
    """The funnel as the counts of a stage record."""
    dropped = {f"dropped_{reason}": item["count"] for reason, item in funnel["dropped"].items()}
    return {
        "clips": funnel["clips"],
        "dropped": sum(dropped.values()),
        **dropped,
        **{f"kept_{use}": count for use, count in funnel["kept"].items()},
        "corrected": funnel["corrected"],
    }


def distributions(rows: Sequence[Row], signals: Mapping[str, Row], config: SelectConfig) -> dict[str, Any]:
    """Histograms of every numeric signal that was measured: {signal: {"edges", "kept", "dropped", "null", ...}}.

    40 bins between the 0.5 and 99.5 percentiles, the outer ones holding what lies beyond, so that
    kept + dropped + null = clips; whole numbers have a bin each where 40 suffice. "field" and "threshold" are the
    setting of `select` that applies to the signal, where there is one.
    """
    is_kept = np.array([row["use"] != "dropped" for row in rows], dtype=bool)
    result: dict[str, Any] = {}
    for column in SIGNALS:
        if column.type not in ("double", "int64"):
            continue
        values = np.array([signals[row["clip_id"]][column.name] for row in rows], dtype=np.float64)  # null is NaN
        measured = ~np.isnan(values)
        if not measured.any():
            continue
        edges = _edges(values[measured], column.type == "int64")
        inside = np.clip(values, edges[0], edges[-1])
        field = threshold_field(column.name)
        result[column.name] = {
            "edges": edges.tolist(),
            "kept": np.histogram(inside[measured & is_kept], edges)[0].tolist(),
            "dropped": np.histogram(inside[measured & ~is_kept], edges)[0].tolist(),
            "null": int((~measured).sum()),
            "field": field,
            "threshold": None if field is None else float(getattr(config, field)),
        }
    return result


def _edges(values: np.ndarray[Any, np.dtype[np.float64]], is_whole: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    low, high = np.percentile(values, [0.5, 99.5])
    if is_whole:
        low, high = np.floor(low), np.ceil(high)
        if high - low < _BINS:
            return np.arange(low, high + 2) - 0.5
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)

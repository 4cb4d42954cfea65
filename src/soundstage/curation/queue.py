"""In which order clips are worth a person's seconds."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..config.tree import SelectConfig
from .rules import holds_window, technical_reasons

Row = Mapping[str, Any]
_SOFTNESS = 0.15


def review_queue(
    clips: Sequence[Row], signals: Mapping[str, Row], config: SelectConfig, window_sec: Fraction
) -> list[Row]:
    """Clips in the order of the expected value of a verdict, best first.

    value = 4 p (1 - p) / (1 + clips of the same class queued before), p = sigmoid((correlation - threshold) / 0.15):
    a verdict tells most where the automatic one is a coin's throw, and a class that has many gains least from another.
    Clips that selection drops on technical grounds whatever the verdict are left out; ties go by clip id.
    """
    by_label: dict[str, list[tuple[float, str, Row]]] = defaultdict(list)
    for clip in clips:
        row = signals[clip["clip_id"]]
        if not technical_reasons(row, config) and holds_window(clip, window_sec, 0.0):
            by_label[clip["label"]].append((-_uncertainty(row, config), clip["clip_id"], clip))
    for waiting in by_label.values():
        waiting.sort(reverse=True, key=lambda item: item[:2])
    heads = [(*waiting[-1][:2], label, 0) for label, waiting in by_label.items()]
    heapq.heapify(heads)
    ordered = []
    while heads:
        _, _, label, queued = heapq.heappop(heads)
        ordered.append(by_label[label].pop()[2])
        if by_label[label]:
            negative, clip_id, _ = by_label[label][-1]
            heapq.heappush(heads, (negative / (2 + queued), clip_id, label, queued + 1))
    return ordered


def _uncertainty(signals: Row, config: SelectConfig) -> float:
    """0..1; 1 where keeping and dropping are equally likely, or nothing was measured."""
    correlation = signals["av_correlation"]
    if correlation is None:
        return 1.0
    p = 1 / (1 + math.exp(-(correlation - config.min_sync_correlation) / _SOFTNESS))
    return 4 * p * (1 - p)

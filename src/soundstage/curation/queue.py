"""In which order clips are worth a person's seconds."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..config.tree import SelectConfig
from .rules import final_reasons, holds_window

Row = Mapping[str, Any]
_SOFTNESS = 0.15


def review_queue(
    clips: Sequence[Row], signals: Mapping[str, Row], config: SelectConfig, window_sec: Fraction
) -> list[Row]:
    """Clips in the order of the expected value of a verdict, best first.

    value = 4 p (1 - p) / (1 + clips of the same class queued before), where p is how likely keeping the clip is right:
    a verdict tells most where the automatic one is a coin's throw, and a class that has many gains least from another.
    Clips that selection drops whatever the verdict (technical reasons, near-duplicates) are left out; ties go by clip
    id.
    """
    by_label: dict[str, list[tuple[float, str, Row]]] = defaultdict(list)
    for clip in clips:
        if is_reviewable(clip, signals[clip["clip_id"]], config, window_sec):
            by_label[clip["label"]].append((-uncertainty(signals[clip["clip_id"]], config), clip["clip_id"], clip))
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


def random_order(
    clips: Sequence[Row], signals: Mapping[str, Row], config: SelectConfig, window_sec: Fraction
) -> list[Row]:
    """The clips that `review_queue` would hold, in an order that has nothing to do with what they show.

    By clip id, which is a hash: any first part is a random sample, the same one each time, to calibrate on.
    """
    found = [clip for clip in clips if is_reviewable(clip, signals[clip["clip_id"]], config, window_sec)]
    return sorted(found, key=lambda clip: str(clip["clip_id"]))


def is_reviewable(clip: Row, signals: Row, config: SelectConfig, window_sec: Fraction) -> bool:
    """Whether a verdict can matter: nothing that holds against any verdict speaks against the clip."""
    return not final_reasons(clip, signals, config) and holds_window(clip, window_sec, 0.0)


def uncertainty(signals: Row, config: SelectConfig) -> float:
    """4 p (1 - p), 0..1; 1 where keeping and dropping are equally likely, or nothing was measured.

    p is the learned scorer's where it ran, sigmoid(sync_match): at the best offset, since an offset is corrected. Else
    it is sigmoid((av_correlation - min_sync_correlation) / 0.15).
    """
    correlation = signals["av_correlation"]
    if signals["sync_match"] is not None:
        log_odds = signals["sync_match"]
    elif correlation is not None:
        log_odds = (correlation - config.min_sync_correlation) / _SOFTNESS
    else:
        return 1.0
    # 4 p (1 - p) = 1 / cosh^2(x / 2), which log odds of any size cannot overflow when cut at 700.
    return float(1 / math.cosh(min(abs(log_odds), 700.0) / 2) ** 2)

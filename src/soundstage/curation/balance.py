"""Which good clips stage one sees, and how much each counts: a limit per class, and weights by synchrony."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ..config.tree import SelectConfig
from ..errors import DataError

_MIN_WEIGHT_BELIEF = 0.01

Row = Mapping[str, Any]


def quality(signals: Row, audio_shift_sec: float) -> tuple[bool, float]:
    """How surely sound and picture belong together, as a key: the larger, the better.

    The learned scorer's log odds where it ran: `sync_score` of a clip left as it is, `sync_match` of one whose offset
    is corrected. Clips without it come after those with it, by `av_correlation`; unmeasured ones last.
    """
    learned = _log_odds(signals, audio_shift_sec)
    if learned is not None:
        return True, float(learned)
    correlation = signals["av_correlation"]
    return False, -math.inf if correlation is None else float(correlation)


def class_limit(sizes: Sequence[int], config: SelectConfig) -> int | None:
    """Clips that a class may have, given the sizes of all classes; None when nothing limits them.

    The lower of `max_per_class` and `max_class_ratio` times the median class, rounded down, never under 1.
    """
    limits = [config.max_per_class] if config.max_per_class else []
    if config.max_class_ratio and sizes:
        limits.append(max(1, math.floor(config.max_class_ratio * median(sizes))))
    return min(limits, default=None)


def over_limit(clips: Sequence[tuple[Row, Row, float]], config: SelectConfig) -> set[str]:
    """Ids of clips that a full class has no room for; the best of each class stay (`quality`, then the lower clip id).

    `clips` are (clip, signals, audio shift in seconds) of all that would else be used by stage one. A clip without a
    label has no class: it is neither counted nor limited.
    """
    by_label: dict[str, list[tuple[tuple[bool, float], str]]] = defaultdict(list)
    for clip, signals, shift in clips:
        if clip["label"]:
            by_label[clip["label"]].append((quality(signals, shift), clip["clip_id"]))
    limit = class_limit([len(members) for members in by_label.values()], config)
    if limit is None:
        return set()
    return {clip_id for members in by_label.values() for clip_id in _best_first(members)[limit:]}


def _best_first(members: Sequence[tuple[tuple[bool, float], str]]) -> list[str]:
    ordered = sorted(members, key=lambda item: item[1])
    return [clip_id for _, clip_id in sorted(ordered, key=lambda item: item[0], reverse=True)]


def sync_weights(clips: Sequence[tuple[Row, Row, float]]) -> dict[str, float]:
    """Weight of each clip: the probability that its sound belongs to it, over the mean of these.

    w_i = p_i / mean(p), p = sigmoid(log odds of the learned scorer), not under 0.01 so that no clip vanishes; the mean
    of the weights is 1. A clip without a score counts as the mean.

    Raises:
        DataError: no clip has a score.
    """
    odds = {clip["clip_id"]: _log_odds(signals, shift) for clip, signals, shift in clips}
    beliefs = {name: max(_sigmoid(value), _MIN_WEIGHT_BELIEF) for name, value in odds.items() if value is not None}
    if not beliefs:
        raise DataError(
            "select.weighting=sync needs the learned scorer, and no clip has a sync_score; configure it for "
            "`soundstage score`, or set select.weighting=none"
        )
    mean = math.fsum(beliefs.values()) / len(beliefs)
    return {name: beliefs.get(name, mean) / mean for name in odds}


def _log_odds(signals: Row, audio_shift_sec: float) -> float | None:
    value: float | None = signals["sync_score"] if audio_shift_sec == 0 else signals["sync_match"]
    return value


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))

"""Calibration: from a labelled sample to the threshold of a score at which what is kept is as good as was asked for.

Precision is the share of good clips among those kept, yield the share of good clips that are kept. The sample must
be drawn at random from what selection will judge: the head of the review queue is not, it holds the hard clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..config.tree import SelectConfig
from ..data.records import SIGNALS
from ..errors import ConfigError, DataError
from .intervals import wilson_interval
from .queue import is_reviewable
from .rules import threshold_field

MIN_EACH = 10
"""good clips, and bad ones, without which a curve says nothing"""

# It judges the sound where it stands; the other signals allow for an offset, or are not about sync.
_AS_PLACED = ("sync_score",)
# They decide on clips whose sound does not belong as placed.
_OF_CORRECTIONS = ("sync_match", "sync_confidence")

Bound = Literal["point", "lower"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """What a threshold keeps of the sample; intervals are Wilson's at 95 %."""

    threshold: float
    kept: int
    good: int
    """good clips among those kept"""
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    """the yield: good clips kept over all good clips with a score"""
    recall_low: float
    recall_high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON, where the yield is called so."""
        return {name.replace("recall", "yield"): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Calibration:
    """The curve of one score, and the threshold chosen on it."""

    score: str
    keeps: Literal["above", "below"]
    """whether clips at or above the threshold are kept, or those at or below it"""
    counts: Mapping[str, int]
    """labelled clips = used + unknown + unfit (decided on without the score) + without_score"""
    points: Sequence[Point]
    """from the loosest threshold to the strictest"""
    chosen: Point | None
    """None: no threshold reaches the precision"""

    @property
    def field(self) -> str | None:
        """The setting of `select` for this threshold, where there is one."""
        return threshold_field(self.score)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "score": self.score,
            "keeps": self.keeps,
            "field": self.field,
            **self.counts,
            "points": [point.as_dict() for point in self.points],
            "chosen": None if self.chosen is None else self.chosen.as_dict(),
        }


def scores_of_synchrony(signals: Mapping[str, Row]) -> list[str]:
    """The scores by which selection judges synchrony: the curator's where it ran, else the correlation."""
    has_curator = any(row["sync_score"] is not None for row in signals.values())
    return ["sync_score", "sync_match"] if has_curator else ["av_correlation"]


def precision_curve(
    scores: NDArray[np.float64], good: NDArray[np.bool_], keeps: Literal["above", "below"] = "above"
) -> list[Point]:
    """One point for each distinct score (n,) as threshold, the loosest first; `good` (n,) are the labels."""
    signed = scores if keeps == "above" else -scores
    order = np.argsort(-signed, kind="stable")
    last = np.flatnonzero(np.append(np.diff(signed[order]) != 0, True))
    kept, hits = last + 1, np.cumsum(good[order])[last]
    total = int(good.sum())
    points = [_point(float(scores[order[i]]), int(k), int(h), total) for i, k, h in zip(last, kept, hits, strict=True)]
    return points[::-1]


def _point(threshold: float, kept: int, good: int, total: int) -> Point:
    precision, recall = wilson_interval(good, kept), wilson_interval(good, total)
    return Point(threshold, kept, good, good / kept, *precision, good / total if total else 0.0, *recall)


def choose(points: Sequence[Point], precision: float, bound: Bound) -> Point | None:
    """The loosest threshold whose precision (its estimate, or the lower end of its interval) is at least `precision`.

    It is the one that keeps most. The estimate at the chosen threshold is a little too good, because it was chosen on
    the same sample; `lower` guards against that and against a small sample.
    """
    return next((p for p in points if (p.precision if bound == "point" else p.precision_low) >= precision), None)


def calibrate(
    score: str,
    labels: Mapping[str, str],
    clips: Mapping[str, Row],
    signals: Mapping[str, Row],
    config: SelectConfig,
    window_sec: Fraction,
    precision: float,
    bound: Bound,
) -> Calibration:
    """Calibrate one numeric signal on `labels`, verdicts by clip id.

    `keep` is good and `drop` is not; `shift` is good, but not for `sync_score`, which judges the sound where it stands.
    Only clips that reach the threshold count: they have the score, no other reason of selection holds against them
    whatever it is, and, for the thresholds of corrections, their `sync_score` is too low to leave them as they are.

    Raises:
        ConfigError: no such score. DataError: too few labels, or nearly all of one kind.
    """
    _check_score(score)
    found = {name: verdict for name, verdict in labels.items() if name in clips}
    others = _without(score, config)
    fit = {
        name
        for name in found
        if _is_fit(clips[name], signals[name], others, window_sec) and _reaches(score, signals[name], config)
    }
    used = sorted(name for name in fit if signals[name][score] is not None)
    good_verdicts = ("keep",) if score in _AS_PLACED else ("keep", "shift")
    good = np.array([found[name] in good_verdicts for name in used], dtype=bool)
    counts = {
        "labelled": len(labels),
        "used": len(used),
        "good": int(good.sum()),
        "unknown": len(labels) - len(found),
        "unfit": len(found) - len(fit),
        "without_score": len(fit) - len(used),
    }
    if min(counts["good"], counts["used"] - counts["good"]) < MIN_EACH:
        raise DataError(_too_few(score, counts))
    scores = np.array([signals[name][score] for name in used], dtype=np.float64)
    keeps: Literal["above", "below"] = "below" if (threshold_field(score) or "").startswith("max_") else "above"
    points = precision_curve(scores, good, keeps)
    return Calibration(score, keeps, counts, points, choose(points, precision, bound))


def _without(score: str, config: SelectConfig) -> SelectConfig:
    """The same thresholds but for that of `score`, which nothing fails."""
    field = threshold_field(score)
    return config if field is None else config.model_copy(update={field: np.inf if field[:3] == "max" else -np.inf})


def _is_fit(clip: Row, signals: Row, config: SelectConfig, window_sec: Fraction) -> bool:
    return clip["split"] != "judge" and is_reviewable(clip, signals, config, window_sec)


def _reaches(score: str, signals: Row, config: SelectConfig) -> bool:
    placed = signals["sync_score"]
    return score not in _OF_CORRECTIONS or (placed is not None and placed < config.min_sync_score)


def _check_score(score: str) -> None:
    numeric = [column.name for column in SIGNALS if column.type in ("double", "int64")]
    if score not in numeric:
        raise ConfigError(f"--score {score} is no numeric signal; signals: {', '.join(numeric)}")


def _too_few(score: str, counts: Mapping[str, int]) -> str:
    return (
        f"{score} cannot be calibrated: {counts['good']} good and {counts['used'] - counts['good']} bad clips, "
        f"expected at least {MIN_EACH} of each. Of {counts['labelled']} labelled clips {counts['unknown']} are "
        f"unknown, {counts['unfit']} decided on without it, {counts['without_score']} without {score}. Have "
        "more clips reviewed, drawn with `soundstage review export --order random`"
    )


def override(calibrations: Sequence[Calibration]) -> dict[str, dict[str, float]]:
    """The thresholds chosen as a configuration, {"select": {field: value}}; scores without a setting have none."""
    values: dict[str, float] = {}
    for item in calibrations:
        if item.field and item.chosen:
            is_whole = SelectConfig.model_fields[item.field].annotation is int
            values[item.field] = int(item.chosen.threshold) if is_whole else item.chosen.threshold
    return {"select": values}

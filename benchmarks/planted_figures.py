"""Proportions, weighted shares and areas under curves with 95 % intervals, for `planted.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, mannwhitneyu

_DRAWS, _RESAMPLES, _SEED = 5_000, 1_000, 0
_PRIOR = 0.5


@dataclass(frozen=True)
class Figure:
    """A value between 0 and 1 with its 95 % interval, and the counts behind it; None when there are none."""

    value: float | None
    low: float | None
    high: float | None
    counts: str

    def __str__(self) -> str:
        """For a table cell."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] {self.counts}".rstrip()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


NOTHING = Figure(None, None, None, "")


def proportion(found: int, total: int) -> Figure:
    """`found` of `total` with Wilson's interval (Wilson, 1927), from scipy."""
    if total == 0:
        return NOTHING
    interval = binomtest(found, total).proportion_ci(method="wilson")
    return Figure(found / total, float(interval.low), float(interval.high), f"{found}/{total}")


@dataclass(frozen=True)
class Stratum:
    """Files of one planted kind, and how many of them fall into a share's numerator and denominator."""

    files: int
    inside: int
    """in numerator and denominator"""
    beside: int
    """in the denominator alone"""
    can_be_inside: bool
    can_be_beside: bool


def weighted_share(weights: Mapping[str, float], strata: Mapping[str, Stratum]) -> Figure:
    """A share of a population in which each kind has its weight, from rates measured in each kind by itself.

        share = sum_k w_k inside_k / files_k  /  sum_k w_k (inside_k + beside_k) / files_k

    The interval is that of the posterior of all rates under Jeffreys' prior, kind by kind (gamma draws, normalised: a
    Dirichlet distribution), drawn out to a share of 0 or 1 that was measured (Brown, Cai and DasGupta, 2001). A
    bootstrap would call a rate of 0 of n certain, and it is exactly such rates, of false alarms among many clean
    files, that decide the precision of a rare kind.

    Raises:
        ValueError: a weighted kind of which no file was planted.
    """
    rng = np.random.default_rng(_SEED)
    inside, both = 0.0, 0.0
    drawn_inside, drawn_both = np.zeros(_DRAWS), np.zeros(_DRAWS)
    for kind, weight in sorted(weights.items()):
        stratum = strata.get(kind)
        if stratum is None or stratum.files == 0:
            raise ValueError(f"{kind} has weight {weight:g} in the mix, but no file of it was planted")
        inside += weight * stratum.inside / stratum.files
        both += weight * (stratum.inside + stratum.beside) / stratum.files
        rates = _draw_rates(rng, stratum)
        drawn_inside += weight * rates[0]
        drawn_both += weight * (rates[0] + rates[1])
    if both == 0.0:
        return NOTHING
    low, high = np.percentile(drawn_inside / drawn_both, [2.5, 97.5])
    share = inside / both
    return Figure(share, 0.0 if share == 0 else float(low), 1.0 if share == 1 else float(high), "")


def _draw_rates(rng: np.random.Generator, stratum: Stratum) -> NDArray[np.float64]:
    """Rates of `inside`, `beside` and the rest: (3, draws). What cannot occur by definition has no prior either."""
    shapes = [
        stratum.inside + _PRIOR if stratum.can_be_inside else 0.0,
        stratum.beside + _PRIOR if stratum.can_be_beside else 0.0,
        stratum.files - stratum.inside - stratum.beside + _PRIOR,
    ]
    draws = np.stack([rng.gamma(shape, size=_DRAWS) if shape else np.zeros(_DRAWS) for shape in shapes])
    return np.asarray(draws / draws.sum(axis=0))


def area(positives: Sequence[float], negatives: Sequence[float]) -> Figure:
    """Area under the receiver operating curve: how often a positive is above a negative, ties counting half.

    It is Mann and Whitney's U over the number of pairs, from scipy; the interval resamples both sides (bootstrap,
    percentiles).
    """
    if not positives or not negatives:
        return NOTHING
    high, low = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    rng = np.random.default_rng(_SEED)
    drawn = _rank_share(rng.choice(high, (_RESAMPLES, len(high))), rng.choice(low, (_RESAMPLES, len(low))))
    below, above = np.percentile(drawn, [2.5, 97.5])
    return Figure(float(_rank_share(high, low)), float(below), float(above), f"n={len(high)}+{len(low)}")


def _rank_share(high: NDArray[np.float64], low: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    statistic = mannwhitneyu(high, low, axis=-1, method="asymptotic").statistic
    return np.asarray(statistic / (high.shape[-1] * low.shape[-1]))

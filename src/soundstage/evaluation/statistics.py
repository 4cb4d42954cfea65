"""Means with intervals, resampling clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import bootstrap


@dataclass(frozen=True)
class Interval:
    """A mean over `n` clips with its 95 % percentile-bootstrap interval (Efron, 1979); None when n is 0."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return asdict(self)


def mean_interval(values: Sequence[float], resamples: int, seed: int = 0) -> Interval:
    """Mean of `values` and the interval over resampled clips; a single value is its own interval."""
    if not values:
        return Interval(None, None, None, 0)
    data = np.asarray(values, dtype=np.float64)
    mean = float(data.mean())
    if len(data) == 1 or np.ptp(data) == 0:
        return Interval(mean, mean, mean, len(data))
    result = bootstrap(
        (data,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed), vectorized=True
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high), len(data))

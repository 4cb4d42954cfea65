"""Intervals against a bootstrap written out, and against the coverage they promise."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.evaluation.statistics import mean_interval


def test_the_interval_is_a_percentile_bootstrap() -> None:
    data = np.random.default_rng(0).normal(0.4, 0.3, 64)
    rng = np.random.default_rng(1)
    means = np.array([rng.choice(data, len(data)).mean() for _ in range(20_000)])
    low, high = np.percentile(means, [2.5, 97.5])
    found = mean_interval(list(data), 20_000)
    assert found.mean == pytest.approx(data.mean())
    assert found.n == 64
    # Two sets of 20,000 resamples: a percentile's own error is about 1 % of the interval's width.
    assert found.low == pytest.approx(low, abs=0.03 * (high - low))
    assert found.high == pytest.approx(high, abs=0.03 * (high - low))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = mean_interval(list(rng.exponential(1.0, 64)), 400)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    # 95 % less a little for 64 skewed values; four standard deviations of 300 trials are 5 points.
    assert 0.87 <= covered / 300 <= 0.99


def test_one_seed_one_interval() -> None:
    data = [0.1, 0.5, 0.4, 0.9]
    assert mean_interval(data, 500) == mean_interval(data, 500)
    assert mean_interval(data, 500, seed=1) != mean_interval(data, 500)


def test_few_values() -> None:
    assert mean_interval([], 500).as_dict() == {"mean": None, "low": None, "high": None, "n": 0}
    assert mean_interval([0.3], 500).as_dict() == {"mean": 0.3, "low": 0.3, "high": 0.3, "n": 1}
    assert mean_interval([0.5, 0.5], 500).as_dict() == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 2}

"""Wilson's interval against published values and its own equation."""

import math

import pytest

from soundstage.curation.intervals import Z_95, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 1998, table I.
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_ends_solve_the_score_equation() -> None:
    # The ends are the p at which the observed share is exactly z standard errors away: |k/n - p| = z sqrt(p(1-p)/n).
    for successes, trials in ((3, 10), (40, 50), (999, 1000)):
        for p in wilson_interval(successes, trials):
            assert abs(successes / trials - p) == pytest.approx(Z_95 * math.sqrt(p * (1 - p) / trials), rel=1e-9)


def test_bounds_and_laws() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 10)[0] == 0.0
    lows = [wilson_interval(k, 30)[0] for k in range(31)]
    assert lows == sorted(lows)
    widths = [high - low for low, high in (wilson_interval(n // 2, n) for n in (4, 16, 64, 256))]
    assert widths == sorted(widths, reverse=True)
    for k in range(31):
        low, high = wilson_interval(k, 30)
        other_low, other_high = wilson_interval(30 - k, 30)
        assert (low, high) == pytest.approx((1 - other_high, 1 - other_low), abs=1e-12)


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="4 successes of 3 trials"):
        wilson_interval(4, 3)

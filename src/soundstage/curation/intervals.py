"""Confidence intervals of proportions."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""two-sided 95 % quantile of the standard normal distribution"""


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, without continuity correction; (0, 1) of no trial.

    (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n) (Wilson, "Probable inference, the law of succession,
    and statistical inference", JASA 1927). It stays in 0..1 and is honest at 0 and n successes, where the textbook's
    normal interval has no width.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials; expected 0 to {trials}")
    if trials == 0:
        return 0.0, 1.0
    share, slack = successes / trials, z * z / trials
    middle = share + slack / 2
    half = z * math.sqrt(share * (1 - share) / trials + slack / (4 * trials))
    # Exactly 0 and 1 at the ends, where rounding would miss them by 1e-17.
    low = 0.0 if successes == 0 else (middle - half) / (1 + slack)
    high = 1.0 if successes == trials else (middle + half) / (1 + slack)
    return low, high

"""How the report writes numbers: sensible digits, a true minus sign, and words where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"


def finite(value: Any) -> float | None:
    """`value` as a finite float, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def fixed(value: Any, digits: int = 2) -> str:
    """A number with so many decimals.

    >>> fixed(-0.126), fixed(-0.001), fixed(None)
    ('−0.13', '0.00', 'not measured')
    """
    number = finite(value)
    if number is None:
        return NOT_MEASURED
    text = f"{number:.{digits}f}"
    return f"−{text[1:]}" if text.startswith("-") and text.strip("-0.") else text.lstrip("-")


def limit(value: Any) -> str:
    """A configured limit: as many decimals as it has, at most three.

    >>> limit(0.6), limit(64), limit(-0.03)
    ('0.6', '64', '−0.03')
    """
    text = fixed(value, 3)
    return text if text == NOT_MEASURED else text.rstrip("0").rstrip(".")


def interval(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """The interval of a mean, `{"low", "high"}`, as text; empty when there is none."""
    low, high = (finite((entry or {}).get(name)) for name in ("low", "high"))
    return "" if low is None or high is None else f"{fixed(low, digits)} … {fixed(high, digits)}"


def share(value: Any) -> str:
    """A share 0..1 in percent with two decimals."""
    number = finite(value)
    return NOT_MEASURED if number is None else f"{100 * number:.2f} %"


def grouped(value: int) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def seconds(value: Any) -> str:
    """Seconds, with minutes where that reads better.

    >>> seconds(3.14), seconds(754.0)
    ('3.1 s', '12 min 34 s')
    """
    number = finite(value)
    if number is None:
        return "unknown"
    if number < 100:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest:02d} s"

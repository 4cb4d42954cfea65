"""Results of one row rule on several partitions, merged into the result it has on all rows at once.

Great Expectations states a row rule's result as counts, shares in percent, and the first offending values and rows.
Counts add up, shares follow from them, and the first of all rows are the first of the first partition that has any:
so what is found does not depend on where the partitions begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .findings import EXAMPLES

Details = dict[str, Any]
_COUNTS = ("element_count", "missing_count", "unexpected_count")
_FIRST = ("partial_unexpected_list", "partial_unexpected_index_list")


def plain_details(details: Mapping[str, Any]) -> Details:
    """A copy with Python's own values: None for every kind of missing value, no NumPy number."""
    return {key: _plain(value) for key, value in details.items()}


def merge_details(before: Details, after: Details) -> Details:
    """The result of a rule on the rows of `before` followed by those of `after`; both hold plain values.

    A rule about the table's columns has an `observed_value`, which is the same in each partition of a file.
    """
    if "element_count" not in before or "element_count" not in after:
        return before or after
    merged = before | {key: before[key] + after[key] for key in _COUNTS if key in before}
    for key in _FIRST:
        if key in before or key in after:
            merged[key] = [*before.get(key, []), *after.get(key, [])][:EXAMPLES]
    counted: Counter[Any] = Counter(merged.get("partial_unexpected_list", []))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], _rank(item[0])))
    merged["partial_unexpected_counts"] = [{"value": value, "count": count} for value, count in ordered]
    return merged | _shares(merged)


def _shares(details: Details) -> Details:
    rows, offenders = details["element_count"], details["unexpected_count"]
    present = rows - details.get("missing_count", 0)
    shares = {
        "missing_percent": _percent(details.get("missing_count", 0), rows),
        "unexpected_percent": _percent(offenders, present),
        "unexpected_percent_total": _percent(offenders, rows),
        "unexpected_percent_nonmissing": _percent(offenders, present),
    }
    return {key: share for key, share in shares.items() if key in details}


def _rank(value: Any) -> tuple[float, str]:
    """GX orders equally frequent values by value; a column has numbers or words, and None in either."""
    return (value, "") if isinstance(value, int | float) else (0.0, str(value))


def _percent(part: int, whole: int) -> float | None:
    return part / whole * 100 if whole else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

"""Suites: rules that hold for any part of a record, limits from the configuration, plain descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from soundstage.config.tree import ContractsConfig
from soundstage.data import suites
from soundstage.data.suites import Rule, Suite

SUITES = [
    suites.clips_suite,
    suites.rejects_suite,
    suites.signals_suite,
    suites.reviews_suite,
    suites.selection_suite,
    suites.shards_suite,
]
EACH = pytest.mark.parametrize("suite", [make(ContractsConfig()) for make in SUITES], ids=lambda suite: suite.name)
# Each looks at one row, or at the columns: so a part of the record is judged as the whole is.
ROW_BY_ROW = {
    "ExpectTableColumnsToMatchOrderedList",
    "ExpectColumnValuesToBeBetween",
    "ExpectColumnValuesToBeInSet",
    "ExpectColumnValuesToMatchRegex",
    "ExpectColumnValuesToNotBeNull",
}


@EACH
def test_rules_do_not_compare_rows(suite: Suite) -> None:
    assert {rule.expectation for rule in suite.rules} <= ROW_BY_ROW


@EACH
def test_descriptions_are_one_plain_sentence_each_and_name_their_column(suite: Suite) -> None:
    described = [rule.description for rule in suite.rules]
    assert len(set(described)) == len(described)
    for rule in suite.rules:
        assert rule.description.startswith(rule.arguments.get("column", "the columns"))
        assert ". " not in rule.description


def _rule(suite: Suite, column: str) -> Rule:
    (rule,) = (r for r in suite.rules if "Between" in r.expectation and r.arguments["column"] == column)
    return rule


@pytest.mark.parametrize(
    ("make", "column", "limits", "low", "high", "words"),
    [
        (suites.clips_suite, "width", {"min_frame_px": 64, "max_frame_px": 128}, 64, 128, "width is 64 to 128 pixels"),
        (suites.clips_suite, "height", {"max_frame_px": 128}, 16, 128, "height is 16 to 128 pixels"),
        (suites.clips_suite, "sample_rate", {"min_sample_rate": 16000}, 16000, 384000, "is 16000 to 384000 Hz"),
        (suites.clips_suite, "channels", {"max_channels": 2}, 1, 2, "channels is 1 to 2"),
        (suites.clips_suite, "duration_us", {"max_duration_sec": 9.5}, 1, 9_500_000, "at most 9.5 s"),
        (suites.rejects_suite, "start_us", {"max_duration_sec": 9.5}, 0, 9_500_000, "at most 9.5 s"),
        (suites.shards_suite, "window_start_us", {"max_duration_sec": 9.5}, 0, 9_500_000, "at most 9.5 s"),
        (suites.signals_suite, "onsets_per_sec", {"max_onsets_per_sec": 8}, 0, 8, "is 0 to 8 a second"),
        (suites.signals_suite, "av_offset_sec", {"max_abs_offset_sec": 1.2}, -1.2, 1.2, "at most 1.2 s either way"),
        (suites.reviews_suite, "seconds_spent", {"max_review_sec": 600}, 0, 600, "is 0 to 600 s"),
        (suites.selection_suite, "audio_shift_sec", {"max_abs_shift_sec": 0.4}, -0.4, 0.4, "at most 0.4 s either way"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_limits_come_from_the_configuration_and_are_described(
    make: Callable[[ContractsConfig], Suite], column: str, limits: dict[str, Any], low: float, high: float, words: str
) -> None:
    rule = _rule(make(ContractsConfig(**limits)), column)
    assert (rule.arguments["min_value"], rule.arguments["max_value"]) == (low, high)
    assert words in rule.description


@pytest.mark.parametrize("name", ["frame_px", "sample_rate"])
def test_a_range_that_nothing_satisfies_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"min_{name} is 90000, above max_{name}, which is 50000; no clip"):
        ContractsConfig(**{f"min_{name}": 90_000, f"max_{name}": 50_000})


@pytest.mark.parametrize("rows", [0, 100_001])
def test_a_partition_has_one_to_a_hundred_thousand_rows(rows: int) -> None:
    with pytest.raises(ValueError, match="partition_rows"):
        ContractsConfig(partition_rows=rows)

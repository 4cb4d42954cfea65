"""Facts count all offenders and name the first ten."""

from __future__ import annotations

import pytest

from soundstage.data.findings import Fact, Finding, Verdict


def test_a_fact_counts_all_and_names_the_first_ten_by_name_once() -> None:
    fact = Fact("odd", "nothing is odd", (f"clip {n % 50:02d}" for n in reversed(range(200))))
    assert fact.count == 200
    assert fact.examples == [f"clip {n:02d}" for n in range(10)]


def test_a_fact_without_offenders_names_none() -> None:
    fact = Fact("odd", "nothing is odd", [])
    assert (fact.count, fact.examples) == (0, [])


FAILED = Finding("clips", "Rule", "v is 0 to 9", False, 12, [f"c{n}" for n in range(10)], ["11", "12"], "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "; 12 offend, found 11, 12: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more"),
        ({"offenders": 1, "examples": ["c0"], "found": []}, "; 1 offend: c0"),
        ({"offenders": 0, "examples": [], "found": ["['a']"]}, ", found ['a']"),
        ({"error": "no such column"}, "; it could not be judged: no such column"),
    ],
    ids=["many", "one", "the table", "not judged"],
)
def test_a_finding_says_what_was_expected_and_found(changes: dict[str, object], said: str) -> None:
    assert str(Finding(**(vars(FAILED) | changes))) == f"suite clips: Rule: expected that v is 0 to 9{said}"


def test_a_verdict_counts_its_failures() -> None:
    held = Finding(**(vars(FAILED) | {"success": True}))
    verdict = Verdict([held, FAILED])
    assert verdict.failures == [FAILED]
    counts = verdict.to_json()
    assert (counts["success"], counts["expectations"], counts["failed"]) == (False, 2, 1)

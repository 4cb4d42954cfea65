"""What a server says of a file tells its versions apart; addresses are put together as each kind of server needs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from soundstage.data.sources.remote import _described, base_of, beside, with_retries, words_of
from soundstage.media.opening import SourceError

# Collected long before it runs in a full suite: an hour ahead is still "just now" then.
NOW = datetime.now(UTC) + timedelta(hours=1)
LONG_AGO = NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    ("info", "token", "settled"),
    [
        ({"ETag": '"abc"', "LastModified": NOW}, '"abc"', True),
        ({"etag": "x", "generation": "5"}, "x", True),
        ({"LastModified": LONG_AGO}, str(LONG_AGO), True),
        ({"Last-Modified": format_datetime(LONG_AGO)}, format_datetime(LONG_AGO), True),
        ({"Last-Modified": format_datetime(NOW)}, format_datetime(NOW), False),
        ({"Last-Modified": "yesterday"}, "yesterday", False),
        ({}, "", False),
    ],
    ids=["tag first", "first of two tags", "time", "time in words", "just now", "no time", "nothing"],
)
def test_versions(info: dict[str, Any], token: str, settled: bool) -> None:
    file = _described("s3://b/a.mp4", {"size": 5, **info})
    assert (file.size, file.token, file.settled) == (5, token, settled)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a/**/x*.mp4", "s3://bucket/a"),
        ("s3://bucket/[ab]/c", "s3://bucket"),
        ("https://x.org/a/get?id=1", "https://x.org/a/get?id=1"),
    ],
)
def test_the_fixed_part_of_a_pattern(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize(
    ("table", "name", "expected"),
    [
        ("s3://b/t/rows.csv", "v/a #1.mp4", "s3://b/t/v/a #1.mp4"),
        ("https://x.org/t/rows.csv?v=2", "v/a #1?.mp4", "https://x.org/t/v/a%20%231%3F.mp4"),
    ],
)
def test_files_beside_a_table(table: str, name: str, expected: str) -> None:
    assert beside(table, name) == expected


class Flaky:
    """Fails with each of `errors` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_passing_failures_are_tried_again() -> None:
    flaky = Flaky(OSError("reset"), ValueError("half an answer"))
    assert with_retries(flaky, attempts=3, deadline=time.monotonic() + 60) == "answer"
    assert flaky.calls == 3


@pytest.mark.parametrize(
    ("error", "calls", "reason"),
    [
        (FileNotFoundError("a.mp4"), 1, "missing"),
        (PermissionError("no"), 1, "unreachable"),
        (SourceError("too_large", "x"), 1, "too_large"),
        (OSError("reset"), 2, "unreachable"),
    ],
    ids=["not there", "not allowed", "a limit", "a failure"],
)
def test_lasting_failures_are_not(error: Exception, calls: int, reason: str) -> None:
    flaky = Flaky(*[error] * 5)
    with pytest.raises(SourceError) as caught:
        with_retries(flaky, attempts=2, deadline=time.monotonic() + 60)
    assert (caught.value.reason, flaky.calls) == (reason, calls)


def test_no_pause_goes_beyond_the_deadline() -> None:
    flaky = Flaky(*[OSError("reset")] * 5)
    with pytest.raises(SourceError, match="reset"):
        with_retries(flaky, attempts=5, deadline=time.monotonic())
    assert flaky.calls == 1


def test_words_of_an_error_are_one_short_line() -> None:
    try:
        try:
            raise OSError("the\n socket closed")
        except OSError as cause:
            raise FileNotFoundError("x" * 1000) from cause
    except FileNotFoundError as error:
        words = words_of(error)
    assert len(words) == 300
    assert "\n" not in words

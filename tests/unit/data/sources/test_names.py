"""Names from strangers: what is followed, and what may stand in a record."""

from __future__ import annotations

import re

import pytest

from soundstage.data.sources.names import has_video_suffix, shown_url, why_unsafe


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "sub/a..b.mp4", "-dash.mp4", "a b'\".mp4", "s3://bucket/a.mp4", "https://x.org/a.mp4?v=1", "…/a.mp4"],
)
def test_names_that_stay_inside_are_followed(name: str) -> None:
    assert why_unsafe(name) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "absolute"),
        ("\\\\host\\share", "absolute"),
        ("C:\\videos\\a.mp4", "absolute"),
        ("../a.mp4", r"\.\."),
        ("sub/../../a.mp4", r"\.\."),
        ("sub\\..\\a.mp4", r"\.\."),
        ("a\0.mp4", "zero byte"),
        ("file:///etc/passwd", "file://"),
        ("ftp://x.org/a.mp4", "ftp://"),
        ("https://user:secret@x.org/a.mp4", "password"),
    ],
)
def test_names_that_lead_out_are_not(name: str, words: str) -> None:
    assert re.search(words, why_unsafe(name))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.org/a.mp4", "https://x.org/a.mp4"),
        ("https://x.org/get?id=5&v=2", "https://x.org/get?id=5&v=2"),
        ("https://x.org/a.mp4?X-Amz-Signature=abc&X-Amz-Expires=9&id=5", "https://x.org/a.mp4?id=5"),
        ("https://x.org/a.mp4?sig=abc", "https://x.org/a.mp4"),
        ("https://user:secret@x.org/a.mp4", "https://x.org/a.mp4"),
    ],
)
def test_secrets_do_not_enter_records(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(("name", "expected"), [("a.MP4", True), (".mp4", True), ("a.mp4.txt", False), ("mp4", False)])
def test_videos_are_known_by_suffix(name: str, expected: bool) -> None:
    assert has_video_suffix(name) is expected

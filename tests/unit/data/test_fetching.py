"""Files from elsewhere are here while they are worked on, whole and hashed, or named with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from soundstage.data.fetching import FetchLimits, local_copy
from soundstage.data.sources import LocalFile, Location, RemoteFile, TarMember
from soundstage.data.sources.remote import inquire
from soundstage.media.opening import SourceError

from .sources.places import Server, served

DATA = bytes(range(256)) * 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.MP4").write_bytes(DATA)
    with served(tmp_path / "files") as running:
        yield running


@pytest.fixture
def limits(tmp_path: Path) -> FetchLimits:
    return FetchLimits(tmp_path / "scratch", max_bytes=10_000_000, timeout_sec=30.0, attempts=3)


def fetched(location: Location, limits: FetchLimits) -> tuple[bytes, str, str]:
    """Content, hash and suffix of the copy; checks that nothing stays behind."""
    with local_copy(location, "", limits) as copy:
        found = copy.path.read_bytes(), copy.sha256, copy.path.suffix
    assert not list(limits.scratch.rglob("*.*"))
    return found


def refusal(location: Location, limits: FetchLimits) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetched(location, limits)
    assert not list(limits.scratch.rglob("*.*"))
    return caught.value


def test_a_file_of_a_server(server: Server, limits: FetchLimits) -> None:
    url = f"{server.url}/a.MP4"
    file = inquire([url])[url]
    assert file is not None
    assert file.size == len(DATA)
    assert fetched(file, limits) == (DATA, hashlib.sha256(DATA).hexdigest(), ".mp4")


@pytest.mark.parametrize("serves_ranges", [True, False])
def test_a_member_of_a_tar_on_a_server(server: Server, limits: FetchLimits, serves_ranges: bool) -> None:
    server.serves_ranges = serves_ranges
    member = TarMember(RemoteFile(f"{server.url}/a.MP4", len(DATA)), 1000, 70_000)
    if serves_ranges:
        assert fetched(member, limits)[0] == DATA[1000:71_000]
    else:
        error = refusal(member, replace(limits, attempts=1))
        assert error.reason == "unreachable"
        assert "serves no ranges" in str(error)


def test_a_member_of_a_tar_here(tmp_path: Path, limits: FetchLimits) -> None:
    (tmp_path / "t.tar").write_bytes(DATA)
    part = DATA[5:3_000_005]
    tar = LocalFile(tmp_path / "t.tar")
    assert fetched(TarMember(tar, 5, 3_000_000), limits)[:2] == (part, hashlib.sha256(part).hexdigest())
    # The tar was cut short after it was listed.
    assert refusal(TarMember(tar, 5, len(DATA)), replace(limits, attempts=1)).reason == "unreachable"


def test_a_file_here_is_not_copied(tmp_path: Path, limits: FetchLimits) -> None:
    (tmp_path / "a.mp4").write_bytes(DATA)
    with local_copy(LocalFile(tmp_path / "a.mp4"), "", limits) as copy:
        assert (copy.path, copy.sha256) == (tmp_path / "a.mp4", hashlib.sha256(DATA).hexdigest())
    with local_copy(LocalFile(tmp_path / "a.mp4"), "known", limits) as copy:
        assert copy.sha256 == "known"
    assert refusal(LocalFile(tmp_path), limits).reason == "not_media"


def test_a_server_that_fails_is_asked_again(server: Server, limits: FetchLimits) -> None:
    file = RemoteFile(f"{server.url}/a.MP4", len(DATA))
    server.failures["/a.MP4"] = 1
    assert fetched(file, limits)[0] == DATA
    server.failures["/a.MP4"] = 100
    before = server.served["/a.MP4"]
    error = refusal(file, replace(limits, attempts=2))
    assert error.reason == "unreachable"
    assert "503" in str(error)
    # An inquiry asks by HEAD, which succeeds here, so downloads are counted alone.
    assert server.served["/a.MP4"] - before == 2


def test_a_server_that_is_gone_costs_one_file(limits: FetchLimits) -> None:
    error = refusal(RemoteFile("http://127.0.0.1:9/a.mp4"), replace(limits, attempts=2))
    assert error.reason == "unreachable"
    assert "cannot be fetched" in str(error)


def test_a_file_that_is_gone_is_missing(server: Server, limits: FetchLimits) -> None:
    assert refusal(RemoteFile(f"{server.url}/b.mp4"), limits).reason == "missing"
    assert inquire([f"{server.url}/b.mp4"]) == {f"{server.url}/b.mp4": None}


@pytest.mark.parametrize("size", [len(DATA), None], ids=["size known", "size not known"])
def test_size_is_a_limit_before_and_while_fetching(server: Server, limits: FetchLimits, size: int | None) -> None:
    error = refusal(RemoteFile(f"{server.url}/a.MP4", size), replace(limits, max_bytes=1_500_000))
    assert error.reason == "too_large"
    assert "ingest.max_fetch_gib" in str(error)
    assert server.served["/a.MP4"] == (0 if size else 1)


def test_a_file_shorter_than_announced_is_not_taken(server: Server, limits: FetchLimits) -> None:
    error = refusal(RemoteFile(f"{server.url}/a.MP4", len(DATA) + 1), replace(limits, attempts=1))
    assert error.reason == "unreachable"
    assert f"{len(DATA)} of {len(DATA) + 1} bytes" in str(error)


def test_time_is_a_limit(server: Server, limits: FetchLimits) -> None:
    error = refusal(RemoteFile(f"{server.url}/a.MP4", len(DATA)), replace(limits, timeout_sec=0.0))
    assert error.reason == "unreachable"
    assert "ingest.fetch_timeout_sec" in str(error)

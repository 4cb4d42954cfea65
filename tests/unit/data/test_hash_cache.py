"""A file is read once as long as nothing of it changes, and never taken for what it was before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from soundstage.data import hash_cache
from soundstage.data.hash_cache import HashCache
from soundstage.stages.files import sha256_file, sha256_text


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read for their hash."""
    names: list[str] = []

    def counted(path: Path) -> str:
        names.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(hash_cache, "sha256_file", counted)
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been written long ago."""
    now = time.time_ns

    monkeypatch.setattr("soundstage.data.hash_cache.time.time_ns", lambda: now() + 10_000_000_000)


def test_untouched_files_are_read_once(tmp_path: Path, read: list[str], settled: None) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4", "caf\udce9.mp4")]
    for path in paths:
        path.write_bytes(os.fsencode(path.name))
    first = HashCache(tmp_path / "cache")
    first.hash_local(paths, workers=2)
    again = HashCache(tmp_path / "cache")
    again.hash_local(paths, workers=2)
    assert sorted(read) == sorted(path.name for path in paths)
    assert [again.sha256_of_file(path) for path in paths] == [sha256_file(path) for path in paths]


@pytest.mark.parametrize("change", ["in place", "replaced", "renamed over", "old time given back"])
def test_changed_files_are_read_again(tmp_path: Path, read: list[str], settled: None, change: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    before = path.stat()
    HashCache(tmp_path / "cache").sha256_of_file(path)
    time.sleep(0.02)
    if change == "replaced":
        path.unlink()
    if change == "renamed over":
        (tmp_path / "new").write_bytes(b"two")
        (tmp_path / "new").rename(path)
    else:
        path.write_bytes(b"two")
    if change == "old time given back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert HashCache(tmp_path / "cache").sha256_of_file(path) == sha256_text("two")
    assert len(read) == 2


def test_a_young_file_is_not_remembered(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    cache = HashCache(tmp_path / "cache")
    assert cache.sha256_of_file(path) == cache.sha256_of_file(path) == sha256_text("one")
    assert HashCache(tmp_path / "cache").sha256_of_file(path) == sha256_text("one")
    assert len(read) == 2


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache")
    cache.hash_local([tmp_path, tmp_path / "absent"], workers=1)
    assert cache.sha256_of_file(tmp_path) == cache.sha256_of_file(tmp_path / "absent") == ""


def test_a_line_that_was_cut_off_costs_that_line(tmp_path: Path) -> None:
    for number in range(3):
        HashCache(tmp_path / "cache").put(f"key {number}", [number, "token"], f"hash {number}")
    whole = (tmp_path / "cache").read_bytes()
    (tmp_path / "cache").write_bytes(whole[:-10])
    torn = HashCache(tmp_path / "cache")
    assert [torn.get(f"key {n}", [n, "token"]) for n in range(3)] == ["hash 0", "hash 1", ""]
    torn.put("key 2", [2, "token"], "hash 2")
    mended = HashCache(tmp_path / "cache")
    assert [mended.get(f"key {n}", [n, "token"]) for n in range(3)] == ["hash 0", "hash 1", "hash 2"]
    assert mended.get("key 2", [3, "token"]) == "", "another version"


def test_old_lines_are_cleared_away(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "cache")
    for number in range(1100):
        cache.put("key", [number], f"hash {number}")
    assert HashCache(tmp_path / "cache").get("key", [1099]) == "hash 1099"
    assert len((tmp_path / "cache").read_text().splitlines()) == 1

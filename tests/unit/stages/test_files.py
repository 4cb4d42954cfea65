"""Files and folders appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from soundstage.stages.files import (
    atomic_path,
    exclusive_lock,
    replace_directory,
    sha256_file,
    sha256_text,
    write_json,
    write_text,
)


def fail_half_way(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk is full")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError, match="full"):
        fail_half_way(target)
    assert list(target.parent.iterdir()) == []


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError, match="full"):
        fail_half_way(target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"


def test_hashes_are_sha256(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert sha256_text("ü") == hashlib.sha256("ü".encode()).hexdigest()


def test_json_has_one_text_for_equal_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": ["ü"]})
    write_json(tmp_path / "b", {"a": ["ü"], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "ü" in (tmp_path / "a").read_text()


def test_a_directory_replaces_another_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
    replace_directory(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new.txt"]


def _count_slowly(folder: Path) -> None:
    for _ in range(40):
        with exclusive_lock(folder / ".lock"):
            path = folder / "count"
            before = int(path.read_text()) if path.exists() else 0
            path.write_text(str(before + 1))


def test_a_lock_keeps_processes_apart(tmp_path: Path) -> None:
    context = get_context("fork")
    workers = [context.Process(target=_count_slowly, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "120"

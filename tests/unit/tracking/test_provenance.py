from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soundstage.config import SoundstageConfig
from soundstage.tracking.provenance import PROCESS_TAG, config_hash, flatten, git_tags, is_running, process_tags
from soundstage.tracking.tolerance import Tolerance


def test_flatten_names_every_leaf_once() -> None:
    values = {"a": {"b": 1, "c": {"d": "text"}}, "e": [1, "x"], "f": None, "g": {}}
    assert flatten(values) == {"a.b": "1", "a.c.d": "text", "e": '[1, "x"]', "f": "null", "g": "{}"}


def test_config_hash_tells_configurations_apart() -> None:
    plain, trial = SoundstageConfig(), SoundstageConfig(trial=True)
    assert config_hash(plain) == config_hash(SoundstageConfig())
    assert config_hash(plain) != config_hash(trial)


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_git_tags_state_commit_and_changes_of_tracked_files_only(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "b.py").write_text("1")
    assert git_tags(tmp_path / "code", "x") == {}
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "code")
    _git(tmp_path, "commit", "-qm", "first")
    head = _git(tmp_path, "rev-parse", "HEAD")
    assert git_tags(tmp_path / "code", "x") == {"x_commit": head, "x_dirty": "false"}
    # Code installed inside somebody's checkout, but not part of it.
    assert git_tags(tmp_path / "environment", "x") == {}
    (tmp_path / "code" / "a.py").write_text("2")
    assert git_tags(tmp_path / "code", "x")["x_dirty"] == "true"


def test_process_is_known_by_its_start_not_by_its_number_alone() -> None:
    tags = process_tags()
    assert is_running(tags)
    assert not is_running(tags | {PROCESS_TAG: f"{os.getpid()}@12345"})
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_running({PROCESS_TAG: f"{ended.pid}@12345"})


def test_tolerance_warns_once_and_lets_interrupts_through(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: BaseException) -> None:
        raise error

    tolerance = Tolerance("stage x")
    assert tolerance.attempt("add", lambda a, b: a + b, 1, b=2) == 3
    for _ in range(3):
        assert tolerance.attempt("fail", fail, OSError("disk full")) is None
    assert tolerance.failures == 3
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [caplog.records[0].getMessage()]
    assert "stage x: could not fail (OSError: disk full)" in caplog.records[0].getMessage()
    with pytest.raises(KeyboardInterrupt):
        tolerance.attempt("fail", fail, KeyboardInterrupt())

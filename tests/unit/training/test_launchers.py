"""What the local launcher reports and how it ends."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from soundstage.training.launchers.local import LocalLauncher


def launcher(tmp_path: Path, log: str = "") -> LocalLauncher:
    (tmp_path / "log.txt").write_text(log)
    return LocalLauncher(tmp_path / "job.json", 1, tmp_path / "log.txt")


def test_a_refusal_of_ours_is_quoted_alone(tmp_path: Path) -> None:
    log = "noise\nsoundstage: DataError: shard 3 is gone\nTraceback of torchrun\n" + "more\n" * 30
    assert launcher(tmp_path, log).last_words() == "DataError: shard 3 is gone"


def test_refusals_of_several_ranks_are_all_quoted_once(tmp_path: Path) -> None:
    log = "soundstage: A\nsoundstage: B\nnoise\nsoundstage: A\n"
    assert launcher(tmp_path, log).last_words() == "A\nB"


def test_without_a_refusal_the_end_of_the_log_is_quoted(tmp_path: Path) -> None:
    text = launcher(tmp_path, "\n".join(f"line {n}" for n in range(40))).last_words(lines=3)
    assert text == "line 37\nline 38\nline 39"


def test_leaving_early_ends_every_process(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    with launcher(tmp_path) as started:
        assert started._process is not None
        parent = psutil.Process(started._process.pid)
        time.sleep(0.3)
        family = [parent, *parent.children(recursive=True)]
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive

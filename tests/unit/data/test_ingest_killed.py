"""A run killed at any moment goes on where it was: nothing twice, nothing lost, the same bytes in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..media.makers import write_plain
from .ingesting import Ingested
from .sources.test_tars import write_tar

RUN = """
import pathlib
import sys

from tests.unit.data.ingesting import Ingested

if __name__ == "__main__":
    Ingested(sys.argv[1], pathlib.Path(sys.argv[2]), span_sec=3.0)
"""
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pattern that names files, a long one too, a copy, broken ones and a tar."""
    folder = tmp_path_factory.mktemp("source")
    for seed in range(5):
        write_plain(folder / f"dog {'abcde'[seed]}.mp4", 2.0, 0.5, seed=seed)
    write_plain(folder / "long cow.mp4", 8.0, 1.0, seed=9)
    shutil.copy(folder / "dog a.mp4", folder / "copy.mp4")
    write_plain(folder / "short.mp4", 0.5)
    (folder / "broken.mp4").write_bytes((folder / "dog b.mp4").read_bytes()[:2000])
    member = write_plain(folder / "m.mkv", 2.0, seed=11)
    write_tar(folder / "t.tar", {"x.mkv": member.read_bytes(), "x.txt": b"a cat", "y.mkv": b"no video", "y.txt": b"y"})
    member.unlink()
    return folder / "*"


def killed_when(source: Path, root: Path, condition: Callable[[Path], bool]) -> None:
    """Start a run in a process group of its own and kill all of it as soon as `condition` holds for the store."""
    script = root / "run.py"
    script.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, script, source, root],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and not condition(root / "workspace" / "media"):
            time.sleep(0.002)
        assert process.poll() is None, f"the run ended with code {process.returncode} before it could be killed"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count(pattern: str, wanted: int) -> Callable[[Path], bool]:
    """Whether so many files are in the store."""
    return lambda media: len(list(media.glob(pattern))) >= wanted


def stored(ingested: Ingested) -> dict[str, bytes]:
    """Clips, sidecars and plans by their place, without what a killed process was writing."""
    media = ingested.workspace.media
    paths = [path for path in sorted(media.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(media)): path.read_bytes() for path in paths if path.name != "hashes.jsonl"}


def test_a_killed_run_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    whole = Ingested(source, tmp_path / "whole", span_sec=3.0)
    root = tmp_path / "killed"
    root.mkdir()
    killed_when(source, root, count("*/*/.*.mp4.*.tmp", 1))
    clips_at_first = len(list((root / "workspace" / "media").glob("*/*/*.mp4")))
    killed_when(source, root, count("*/*/*.json", max(3, clips_at_first + 1)))
    killed_when(source, root, count("*/plans/*/*.json", 5))
    kept = len(list((root / "workspace" / "media").glob("*/*/*.mp4")))
    assert 0 < kept < len(whole.clips), "the runs were killed with work behind and before them"
    finished = Ingested(source, root, span_sec=3.0)
    assert finished.files() == whole.files()
    assert finished.counts == whole.counts
    assert stored(finished) == stored(whole)
    assert finished.encoded <= whole.encoded - (kept - 2), "of two processes each may have lost its last sidecar"


def test_what_was_being_written_is_cleared_away_later(tmp_path: Path) -> None:
    write_plain(tmp_path / "videos" / "dog.mp4", 1.5)
    first = Ingested(tmp_path / "videos", tmp_path)
    store = first.workspace.resolve(first.clips[0]["media_uri"]).parent
    old, young = (store / f".{name}.mp4.1.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half a clip")
    os.utime(old, (1, 1))
    Ingested(tmp_path / "videos", tmp_path)
    assert (old.exists(), young.exists()) == (False, True)

"""A folder of videos: what changes in it reruns what depends on it, and nothing else does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.config import load_config
from soundstage.stages import Workspace
from soundstage.synth.world import build_world

STAGES = ("ingest", "split", "validate clips")


class Folder:
    """A small source folder, a workspace, and the command line between them."""

    def __init__(self, root: Path) -> None:
        self.source, self.workspace = root / "source", Workspace.open(root / "workspace")
        # The world is an ordinary folder of videos; its truth table is not read when it comes as a source.
        build_world(load_config("micro", overrides=["synth.clips=5", "synth.defects_each=0"]).synth, self.source)
        self.videos = sorted((self.source / "videos").iterdir())

    def ran(self) -> list[str]:
        """Run the first stages; returns those that worked rather than found their result."""
        worked = []
        for stage in STAGES:
            options = ["--preset", "micro", "--workspace", str(self.workspace.root)]
            options += ["--set", f"ingest.source={self.source}", "--set", "tracking.system_metrics=false"]
            done = CliRunner().invoke(cli.build(), [*stage.split(), *options])
            assert done.exit_code == 0, done.output
            if "unchanged" not in done.output:
                worked.append(stage)
        return worked

    def clips(self) -> int:
        return self.workspace.current("ingest").counts["clips"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    made = Folder(tmp_path_factory.mktemp("sources"))
    held = made.source.with_name("held.mp4")
    shutil.move(made.videos.pop(), held)
    # The table must not name a file that is not there.
    table = made.source / "sources.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "00004.mp4" not in line))
    assert made.ran() == list(STAGES)
    assert made.clips() == 4
    return made


def test_untouched_folder_reruns_nothing(folder: Folder):
    for video in folder.videos:
        os.utime(video, (1, 1))
    assert folder.ran() == []


def test_added_file_reruns_all_that_read_clips(folder: Folder):
    shutil.copy(folder.source.with_name("held.mp4"), folder.source / "videos" / "new.mp4")
    assert folder.ran() == list(STAGES)
    assert folder.clips() == 5


def test_changed_bytes_rerun_all_that_read_clips(folder: Folder):
    before = folder.workspace.current("split").content
    shutil.copy(folder.source / "videos" / "new.mp4", folder.videos[0])
    assert folder.ran() == list(STAGES)
    assert folder.workspace.current("split").content != before
    assert folder.workspace.current("ingest").counts["reject_exact_duplicate"] == 1


def test_file_that_is_no_video_changes_nothing(folder: Folder):
    (folder.source / "notes.txt").write_text("no video")
    assert folder.ran() == []

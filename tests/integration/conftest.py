"""One workspace for all integration tests: the whole pipeline runs in it once, what follows costs only what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from soundstage.catalog import STAGES
from soundstage.stages import StageRecord, Workspace

BIN = Path(sys.executable).parent
SOUNDSTAGE = BIN / "soundstage"


def environment() -> dict[str, str]:
    """The environment of commands: like an activated one, and git knows an author."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    names = {f"GIT_{role}_{key}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    return os.environ | names | {"PATH": path}


@dataclass(frozen=True)
class Place:
    """A workspace and the commands run in it."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.root)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `soundstage` here at preset micro; returns all it printed after checking its exit code."""
        command = [SOUNDSTAGE, *arguments, "--preset", "micro", "--workspace", self.root]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            timeout=900,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def summary(self) -> dict[str, Any]:
        """The summary of the last run."""
        summary: dict[str, Any] = json.loads((self.root / "summary.json").read_text())
        return summary

    def ran(self) -> list[str]:
        """Stages that worked in the last run, in their order."""
        ran: list[str] = self.summary()["ran"]
        return ran


@dataclass(frozen=True)
class Demo:
    """The demonstration at micro size, run once."""

    place: Place
    output: str
    summary: dict[str, Any]
    records: dict[str, StageRecord]
    """of all stages, as that run made them"""
    snapshot: Path
    """the workspace as that run left it; later tests change the workspace, and copy this one instead"""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole demonstration through kfp's local runner."""
    place = Place(tmp_path_factory.mktemp("pipeline") / "workspace")
    output = place.run("demo")
    snapshot = tmp_path_factory.mktemp("pipeline-snapshot") / "workspace"
    shutil.copytree(place.root, snapshot, symlinks=True)
    return Demo(place, output, place.summary(), {stage: place.workspace.current(stage) for stage in STAGES}, snapshot)

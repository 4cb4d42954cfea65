"""DVC runs the same stages: equal manifests, no-op reruns, versions that can be fetched back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from soundstage.catalog import STAGES
from soundstage.stages import Workspace

from .conftest import BIN, SOUNDSTAGE, Demo, environment


def _command(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dvc") / "mine"
    _command(folder.parent, SOUNDSTAGE, "init", folder, "--preset", "micro")
    _command(folder, BIN / "dvc", "repro", "evaluate")
    return folder


def test_manifests_equal_those_of_the_kfp_run(demo: Demo, repository: Path):
    mine = Workspace.open(repository)
    stages = [name for name, stage in STAGES.items() if stage.cacheable]
    assert {name: mine.current(name) for name in stages} == {name: demo.records[name] for name in stages}


def test_repro_again_asks_only_what_dvc_cannot_see(repository: Path):
    output = _command(repository, BIN / "dvc", "repro", "evaluate")
    asked = {line.removeprefix("== ") for line in output.splitlines() if line.startswith("== ")}
    assert asked == {"ingest", "curator", "judge", "review", "encode", "backbone"}
    assert output.count("unchanged: made by an earlier run") == 6


def test_parameter_reruns_what_reads_it(repository: Path):
    config = repository / "soundstage.yaml"
    before = config.read_text()
    config.write_text(before.replace("max_still_share: 0.985", "max_still_share: 0.986"))
    output = _command(repository, BIN / "dvc", "repro", "select")
    config.write_text(before)
    asked = {line.removeprefix("== ") for line in output.splitlines() if line.startswith("== ")}
    assert asked == {"ingest", "curator", "review", "select"}


def test_version_is_pushed_and_fetched_back(repository: Path):
    _command(repository, BIN / "dvc", "repro", "select")
    _command(repository, "git", "add", "--all")
    _command(repository, "git", "commit", "--quiet", "--message", "first results")
    _command(repository, BIN / "dvc", "push", "--quiet")
    clone = repository.with_name("clone")
    _command(repository.parent, "git", "clone", "--quiet", repository, clone)
    _command(clone, BIN / "dvc", "remote", "modify", "local", "url", repository / ".dvc" / "remote")
    _command(clone, BIN / "dvc", "pull", "--quiet", "split")
    fetched = (clone / "manifests" / "split" / "clips.parquet").read_bytes()
    assert fetched == (repository / "manifests" / "split" / "clips.parquet").read_bytes()

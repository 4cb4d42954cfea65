"""`soundstage init` makes a repository that git and DVC accept, once, and never writes over files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from soundstage import cli
from soundstage.config import load_config

DVC = Path(sys.executable).with_name("dvc")


def _init(*arguments: str):
    return CliRunner().invoke(cli.build(), ["init", *arguments])


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def author(monkeypatch, tmp_path):
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = A\n\temail = a@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return config


@pytest.mark.usefixtures("author")
def test_init_makes_a_clean_repository_of_the_preset(tmp_path):
    folder = tmp_path / "mine"
    done = _init(str(folder), "--preset", "micro", "--set", "split.test=0.3")
    assert done.exit_code == 0, done.output
    assert load_config(file=folder / "soundstage.yaml") == load_config("micro", overrides=["split.test=0.3"])
    assert _git(folder, "status", "--porcelain") == ""
    assert {"dvc.yaml", "soundstage.yaml", "README.md", ".gitignore"} <= set(_git(folder, "ls-files").split())
    assert (folder / ".dvc" / "config").read_text().count("analytics = False") == 1
    assert "url = remote" in (folder / ".dvc" / "config").read_text()
    stages = subprocess.run(
        [DVC, "stage", "list", "--name-only"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "validate-selection" in stages.stdout.split()


def test_init_without_an_author_stages_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    done = _init(str(tmp_path / "mine"), "--preset", "micro")
    assert done.exit_code == 0, done.output
    assert "git knows no author" in done.output
    assert "soundstage.yaml" in _git(tmp_path / "mine", "diff", "--cached", "--name-only")


@pytest.mark.usefixtures("author")
def test_init_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = _init(str(tmp_path / "mine"))
    assert done.exit_code == 2
    assert "not an empty folder" in done.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("author")
def test_init_checks_the_configuration_before_it_writes(tmp_path):
    done = _init(str(tmp_path / "mine"), "--preset", "micro", "--set", "split.tset=0.3")
    assert done.exit_code == 2
    assert not (tmp_path / "mine").exists()

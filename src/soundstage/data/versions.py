"""The one door to DVC: makes a folder a git and DVC repository with a local remote."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from ..errors import SoundstageError

REMOTE = "local"
REMOTE_FOLDER = "remote"


def make_repository(folder: Path) -> None:
    """Make `folder` a git repository with DVC inside; results are pushed to `.dvc/remote` until another is named.

    Raises:
        SoundstageError: git is missing or refuses; its words are quoted.
    """
    # DVC reads it at import.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.repo import Repo

    remote = folder.resolve() / ".dvc" / REMOTE_FOLDER

    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet")
    logging.getLogger("dvc").setLevel(logging.WARNING)
    repo = Repo.init(str(folder))
    try:
        with repo.config.edit() as settings:
            settings["core"]["analytics"] = False
            settings["core"]["remote"] = REMOTE
            # DVC takes a relative path from the working directory and saves it relative to its own folder.
            settings["remote"][REMOTE] = {"url": os.path.relpath(remote)}
    finally:
        repo.close()
    ignored = folder / ".dvc" / ".gitignore"
    ignored.write_text(ignored.read_text() + f"/{REMOTE_FOLDER}\n")


def commit_all(folder: Path, message: str) -> bool:
    """Commit all that git does not ignore; False when git knows no author, and then everything is only staged.

    Raises:
        SoundstageError: git refuses; its words are quoted.
    """
    _git(folder, "add", "--all")
    known = all(_knows(folder, key) for key in ("user.name", "user.email"))
    if known:
        _git(folder, "commit", "--quiet", "--message", message)
    return known


def _knows(folder: Path, key: str) -> bool:
    return subprocess.run(["git", "-C", str(folder), "config", key], capture_output=True, check=False).returncode == 0


def _git(folder: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SoundstageError(
            "git is not installed; a workspace repository needs it: install git, try again"
        ) from error
    if done.returncode:
        raise SoundstageError(f"git {arguments[0]} in {folder} failed: {done.stderr.strip()}")

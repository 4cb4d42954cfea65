"""What a run was made from, as tags and parameters: one function a fact, so that every run states it alike."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from .. import __version__
from ..config import Config
from ..stages.files import sha256_file, sha256_text
from ..stages.record import StageRecord

PREFIX = "soundstage"
PROCESS_TAG, HOST_TAG = f"{PREFIX}.process", f"{PREFIX}.host"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping as `a.b.c` -> text; lists are kept whole as JSON.

    >>> flatten({"a": {"b": 1}, "c": [1, 2], "d": None})
    {'a.b': '1', 'c': '[1, 2]', 'd': 'null'}
    """
    return dict(_leaves(values, prefix))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)


def config_hash(config: Config) -> str:
    """SHA-256 of the canonical text of a configuration."""
    return sha256_text(config.canonical_json())


@cache
def package_hash() -> str:
    """Hash of all source of this package: names the code when there is no git checkout."""
    root = _package_root()
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sha256_text("\n".join(f"{path.relative_to(root)} {sha256_file(path)}" for path in files))[:16]


def _package_root() -> Path:
    return Path(__file__).resolve().parents[1]


def git_tags(folder: Path, prefix: str) -> dict[str, str]:
    """Commit of the git checkout that tracks `folder`, and whether tracked files differ from it; empty without one."""
    tracked = _git(folder, "ls-files", "--", ".")
    # An environment inside somebody's repository lies in a checkout that knows nothing of it.
    commit = _git(folder, "rev-parse", "HEAD") if tracked else ""
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {f"{prefix}_commit": commit, f"{prefix}_dirty": str(bool(changed)).lower()}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def code_tags() -> dict[str, str]:
    """Version, source hash and git commit of the running code, and who runs it where."""
    git = git_tags(_package_root(), f"{PREFIX}.git")
    tags = {f"{PREFIX}.version": __version__, f"{PREFIX}.source": package_hash(), "mlflow.user": _user(), **git}
    if git:
        tags["mlflow.source.git.commit"] = git[f"{PREFIX}.git_commit"]
    return tags


def process_tags() -> dict[str, str]:
    """Host and process, so that a later start can tell a killed run from one that still works."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: _process_name(psutil.Process(os.getpid()))}


def is_running(tags: Mapping[str, str]) -> bool:
    """Whether the process named in a run's tags lives on this host."""
    pid = tags[PROCESS_TAG].partition("@")[0]
    try:
        return _process_name(psutil.Process(int(pid))) == tags[PROCESS_TAG]
    except psutil.NoSuchProcess:
        return False


def _process_name(process: psutil.Process) -> str:
    # Process ids are used again; with the time of its start one names a process.
    return f"{process.pid}@{process.create_time():.0f}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user without a name


def input_tags(inputs: Mapping[str, StageRecord]) -> dict[str, str]:
    """Stage, work digest and content hash of every input record."""
    tags = {}
    for name, record in inputs.items():
        tags[f"{PREFIX}.input.{name}"] = f"{record.stage}:{record.digest}"
        tags[f"{PREFIX}.input.{name}.content"] = record.content
    return tags


def result_tags(record: StageRecord) -> dict[str, str]:
    """What names a finished stage's result, and its notes."""
    return {
        f"{PREFIX}.digest": record.digest,
        f"{PREFIX}.content": record.content,
        f"{PREFIX}.payload": record.payload,
        f"{PREFIX}.code_version": record.code_version,
        **{f"{PREFIX}.note.{name}": text for name, text in record.notes.items()},
    }

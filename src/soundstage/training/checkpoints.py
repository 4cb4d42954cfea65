"""Checkpoints on disk: folders that appear whole or not at all, say what they are, and are pruned.

checkpoints/step00000100/      one checkpoint, renamed to this name when all its files are on disk
    checkpoint.json            who wrote it, and every file with its size
    *.pt                       DeepSpeed's: trainable weights and optimizer state
    average.safetensors        the moving average of the weights, when there is one
checkpoints/latest             the newest one's name, for DeepSpeed's own tools
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..stages.files import write_json, write_text

ABOUT_FILE = "checkpoint.json"
_PARTIAL, _OLD = ".partial", ".old"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint."""

    folder: Path
    steps: int
    """optimizer steps done"""
    world_size: int
    zero_stage: int
    state: dict[str, Any] = field(default_factory=dict)
    """what the trainer keeps beside weights and optimizer"""

    @property
    def tag(self) -> str:
        """DeepSpeed's name of it."""
        return self.folder.name


def tag_of(steps: int) -> str:
    """The name of the checkpoint after `steps` optimizer steps."""
    return f"step{steps:08d}"


def partial_folder(root: Path) -> Path:
    """Where a checkpoint is written before it appears."""
    return root / _PARTIAL


def newest(root: Path) -> Checkpoint | None:
    """The newest checkpoint below `root`, None without one.

    Raises:
        TrainingError: one of its files is gone or has another size than was written.
    """
    names = sorted(path.name for path in root.glob("step*") if path.is_dir())
    return _opened(root / names[-1]) if names else None


def _opened(folder: Path) -> Checkpoint:
    about = folder / ABOUT_FILE
    if not about.exists():
        raise TrainingError(f"checkpoint {folder} has no {ABOUT_FILE}: it was altered; {_WAY_OUT}")
    told = json.loads(about.read_text())
    for name, size in told["files"].items():
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != size:
            has = "is gone" if found is None else f"has {found} bytes"
            raise TrainingError(
                f"checkpoint {folder}: {name} {has}, {size} bytes were written; it was altered; {_WAY_OUT}"
            )
    return Checkpoint(folder, told["steps"], told["world_size"], told["zero_stage"], told["state"])


_WAY_OUT = "delete this folder to go on from the one before it, or from the start"


def publish(root: Path, steps: int, world_size: int, zero_stage: int, state: dict[str, Any], keep: int) -> Checkpoint:
    """Make the written partial checkpoint appear, and drop all but the newest `keep`. For one rank, after all wrote.

    Every file is on disk before the one rename that makes the folder appear, so a kill or a power cut at any moment
    leaves the checkpoint before this one or this one.
    """
    written = partial_folder(root) / tag_of(steps)
    files = {path.relative_to(written).as_posix(): path.stat().st_size for path in _files(written)}
    about = {"steps": steps, "world_size": world_size, "zero_stage": zero_stage, "state": state, "files": files}
    write_json(written / ABOUT_FILE, about)
    for path in (written, *(path for path in written.rglob("*") if path.is_dir())):
        flush(path)
    final = root / written.name
    replaced = _set_aside(final) if final.exists() else None  # written before this run went on from an older one
    written.rename(final)
    if replaced:
        shutil.rmtree(replaced)
    shutil.rmtree(partial_folder(root))  # DeepSpeed leaves a script in it
    flush(root)
    write_text(root / "latest", final.name)
    for old in sorted(path for path in root.glob("step*") if path.is_dir())[:-keep]:
        _drop(old)
    return Checkpoint(final, steps, world_size, zero_stage, state)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ABOUT_FILE)


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_partial(root: Path) -> None:
    """Remove what a killed run left half written or half deleted."""
    for path in (root / _PARTIAL, *root.glob(f"{_OLD}-*")):
        shutil.rmtree(path, ignore_errors=True)


def _drop(folder: Path) -> None:
    """Delete a checkpoint; a kill meanwhile must not leave half of one under its name."""
    shutil.rmtree(_set_aside(folder), ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    aside = folder.with_name(f"{_OLD}-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside

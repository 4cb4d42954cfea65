"""`soundstage doctor`: what this machine lacks, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from .options import WorkspaceOption

_GIB = 2**30
_NEEDED_MEMORY_GIB = 8
_NEEDED_DISK_GIB = 2
_PYTHON = (3, 11)


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    state: Literal["ok", "missing", "note"]
    found: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(workspace: WorkspaceOption = None) -> None:
    """Say what is missing on this machine and how to get it; exit 1 when something needed is missing."""
    findings = list(examine(_place(workspace)))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.state:8}{finding.what:{width + 2}}{finding.found}")
        if finding.remedy:
            print(f"{'':8}{'':{width + 2}}-> {finding.remedy}")
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if missing:
        typer.echo(f"missing: {', '.join(missing)}", err=True)
        raise typer.Exit(1)
    print("all that is needed is here")


def examine(place: Path) -> Iterator[Finding]:
    """Look at python, packages, git, cores, memory, disk, the workspace folder and accelerators."""
    yield _python()
    yield from _packages()
    yield _git()
    yield _cores()
    yield _memory()
    yield from _folder(place)
    yield _accelerator()


def _place(workspace: Path | None) -> Path:
    return Path(workspace or os.environ.get("SOUNDSTAGE_WORKSPACE") or "workspace").expanduser().resolve()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == _PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "missing", found, "install Python 3.11 and make the environment with it: `make setup`")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong = []
    requirements = [Requirement(text) for text in metadata.requires("soundstage") or []]
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    for item in needed:
        version = _version(item.name)
        if version is None or not item.specifier.contains(version, prereleases=True):
            wrong.append(f"{item.name} {version or 'absent'} (needs {item.specifier or 'any'})")
    remedy = "install the pinned set: `make setup`, or pip install --no-deps -r requirements.lock"
    if wrong:
        yield Finding("packages", "missing", "; ".join(wrong), remedy)
    else:
        yield Finding("packages", "ok", f"{len(needed)} required, all in range")
    yield from _lock(remedy)


def _lock(remedy: str) -> Iterator[Finding]:
    lock = Path(__file__).resolve().parents[3] / "requirements.lock"
    if not lock.exists():
        return
    pins = [line.split("==") for line in lock.read_text().splitlines() if "==" in line and not line.startswith("#")]
    other = [f"{name} {_version(name) or 'absent'} (pinned {pin})" for name, pin in pins if _version(name) != pin]
    if not other:
        yield Finding("pinned versions", "ok", f"{len(pins)} as in requirements.lock")
    else:
        shown = "; ".join(other[:5]) + (f"; and {len(other) - 5} more" if len(other) > 5 else "")
        yield Finding("pinned versions", "note", shown, remedy)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> Finding:
    path = shutil.which("git")
    if path:
        return Finding("git", "ok", path)
    return Finding("git", "missing", "not on PATH", "install git with the system's package manager")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count >= 2:
        return Finding("cores", "ok", str(count))
    return Finding("cores", "note", str(count), "the demo is sized for 2 cores; on one it takes about twice as long")


def _memory() -> Finding:
    import psutil

    found = psutil.virtual_memory().total / _GIB
    if found >= _NEEDED_MEMORY_GIB:
        return Finding("memory", "ok", f"{found:.0f} GiB")
    return Finding(
        "memory", "note", f"{found:.1f} GiB", f"the demo needs up to {_NEEDED_MEMORY_GIB} GiB; close other programs"
    )


def _folder(place: Path) -> Iterator[Finding]:
    parent = next(folder for folder in (place, *place.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            yield Finding("workspace", "ok", f"{place} can be written")
    except OSError as error:
        remedy = "choose another folder with --workspace or $SOUNDSTAGE_WORKSPACE"
        yield Finding("workspace", "missing", f"{place}: {error.strerror}", remedy)
        return
    free = shutil.disk_usage(parent).free / _GIB
    if free >= _NEEDED_DISK_GIB:
        yield Finding("disk", "ok", f"{free:.0f} GiB free")
    else:
        remedy = f"the demo needs {_NEEDED_DISK_GIB} GiB: free some, or put --workspace on another disk"
        yield Finding("disk", "missing", f"{free:.1f} GiB free", remedy)


def _accelerator() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("accelerator", "note", f"torch cannot be imported: {error}")
    if torch.cuda.is_available():
        return Finding("accelerator", "ok", torch.cuda.get_device_name(0))
    return Finding("accelerator", "note", "no GPU: the demo runs on cores; real backbones need a GPU")

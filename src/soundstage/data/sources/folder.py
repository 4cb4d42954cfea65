"""Videos on this machine: all below a folder, or those that a pattern names.

Everything with a video's suffix is a source, whatever it turns out to be: a dangling link or a folder called `x.mp4`
is listed too, so that ingestion can reject it with a reason instead of losing it. Other files (tables, texts,
pictures) are no sources.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from .names import has_video_suffix

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class FoundFile:
    """One entry of the source folder."""

    uri: str
    """path relative to the folder, with forward slashes; bytes that are no UTF-8 are written as escapes"""
    path: Path
    oddity: str
    """why it cannot be read as a file at all; empty for a regular, readable file"""


def list_folder(folder: Path, skipped: Path | None = None) -> list[FoundFile]:
    """All videos below `folder`, hidden ones too, sorted by uri; a folder `skipped` inside it is left out.

    Links to files are followed, links to folders are listed as oddities.

    Raises:
        DataError: a subfolder cannot be listed.
    """
    return sorted((found_file(folder, path) for path in _walk(folder, skipped)), key=lambda file: file.uri)


def expand(pattern: str, skipped: Path | None = None) -> tuple[Path, list[FoundFile]]:
    """The fixed folder of a pattern (`*`, `?`, `[...]`; `**` for any depth), and all it names, sorted by uri."""
    whole = Path(os.path.abspath(Path(pattern).expanduser()))  # noqa: PTH100 - takes `..` out without following links
    base = Path(*_fixed(whole.parts))
    # An absolute pattern is none for pathlib's own glob.
    paths = {Path(name) for name in glob.iglob(str(whole), recursive=True, include_hidden=True)}  # noqa: PTH207
    inside = [path for path in paths if skipped is None or not path.is_relative_to(skipped)]
    return base, sorted((found_file(base, path) for path in inside), key=lambda file: file.uri)


def has_pattern(text: str) -> bool:
    """Whether a path holds a pattern."""
    return bool(_MAGIC & set(text))


def _fixed(parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        if has_pattern(part):
            return
        yield part


def _walk(folder: Path, skipped: Path | None) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"source folder {error.filename} cannot be listed: {error.strerror}; check its permissions")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        here = Path(parent)
        folders[:] = [name for name in folders if here / name != skipped]
        for name in folders:
            if (here / name).is_symlink() or has_video_suffix(name):
                yield here / name
        yield from (here / name for name in files if has_video_suffix(name))


def found_file(folder: Path, path: Path) -> FoundFile:
    """The entry of a path below `folder`."""
    uri = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")
    return FoundFile(uri, path, oddity_of(path))


def oddity_of(path: Path) -> str:
    """Why a path cannot be read as a file; empty when it can."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link that leads nowhere: {error.strerror}" if path.is_symlink() else f"unreadable: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "a link to a folder, which is not followed" if path.is_symlink() else "a folder, not a file"
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder: a pipe, socket or device"
    return "" if os.access(path, os.R_OK) else "unreadable: permission denied"

"""Where raw videos come from: a folder, with an optional `sources.csv`, or the procedural world made once on demand.

Everything with a video's suffix below the folder is a source, whatever it turns out to be: a dangling link or a folder
called `x.mp4` is listed too, so that ingestion can reject it with a reason instead of losing it. Other files (tables,
texts, pictures) are no sources.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.slices import IngestSlice
from ..errors import DataError
from ..stages.files import exclusive_lock, replace_directory, sha256_file, sha256_text
from ..stages.fingerprint import code_version
from ..stages.workspace import Workspace

SYNTH_SOURCE = "synth:"
SYNTH_MODULE = "soundstage.synth.world"
SOURCES_CSV = "sources.csv"
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".asf", ".ogv"),
        *(".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".mxf"),
    }
)
CAPTION_TEMPLATE = "a video of {label} with its sound"
UNKNOWN = "unknown"
_COLUMNS = ("file", "label", "caption", "licence", "provenance")


@dataclass(frozen=True)
class SourceFile:
    """One entry of the source folder."""

    uri: str
    """path relative to the folder, with forward slashes; bytes that are no UTF-8 are written as escapes"""
    path: Path
    oddity: str
    """why it cannot be read as a file at all; empty for a regular, readable file"""


@dataclass(frozen=True)
class Annotation:
    """What is known of a source beside its bytes."""

    label: str
    caption: str
    caption_from: str
    licence: str
    provenance: str


def is_synth(config: IngestSlice) -> bool:
    """Whether the sources are the procedural world."""
    return config.ingest.source == SYNTH_SOURCE


def listing_digest(config: IngestSlice, workspace: Workspace) -> str:
    """Hash of everything ingestion would read: paths and bytes of all sources and of `sources.csv`, never times.

    For the procedural world it is the hash of its configuration and code: equal ones make equal files.

    Raises:
        DataError: the folder does not exist or holds no video.
    """
    if is_synth(config):
        return _world_digest(config)
    folder = resolve_source(config, workspace)
    digest = hashlib.sha256()
    for source in list_sources(folder, workspace):
        content = source.oddity or f"{source.path.stat().st_size} {sha256_file(source.path)}"
        digest.update(json.dumps([source.uri, content]).encode())
    table = folder / SOURCES_CSV
    digest.update(table.read_bytes() if table.is_file() else b"no table")
    return digest.hexdigest()


def resolve_source(config: IngestSlice, workspace: Workspace) -> Path:
    """The folder of raw videos; for `synth:` the world below the workspace, built if it is not there.

    Raises:
        DataError: the folder does not exist or holds no video.
    """
    if is_synth(config):
        return _resolve_world(config, workspace)
    folder = Path(config.ingest.source).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(
            f"source folder {folder} {'is not a folder' if folder.exists() else 'does not exist'}; "
            f"give a folder of videos, or {SYNTH_SOURCE!r} for the procedural world"
        )
    if not list_sources(folder, workspace):
        raise DataError(
            f"source folder {folder} holds no video; files with one of these suffixes are taken, in subfolders too: "
            + " ".join(sorted(VIDEO_SUFFIXES))
        )
    return folder


def _world_digest(config: IngestSlice) -> str:
    assert config.synth is not None
    return sha256_text(json.dumps([config.synth.canonical_json(), code_version(SYNTH_MODULE)]))


def _resolve_world(config: IngestSlice, workspace: Workspace) -> Path:
    from ..synth.world import build_world

    assert config.synth is not None
    folder = workspace.root / "world" / _world_digest(config)[:24]
    with exclusive_lock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            build_world(config.synth, partial)
            replace_directory(partial, folder)
    return folder


def list_sources(folder: Path, workspace: Workspace | None = None) -> list[SourceFile]:
    """All sources below `folder`, hidden ones too, sorted by uri; a workspace inside the folder is left out.

    Links to files are followed, links to folders are listed as oddities.

    Raises:
        DataError: a subfolder cannot be listed.
    """
    found = (_source(folder, path) for path in _walk(folder, workspace.root if workspace else None))
    return sorted(found, key=lambda source: source.uri)


def _walk(folder: Path, skipped: Path | None) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"source folder {error.filename} cannot be listed: {error.strerror}; check its permissions")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        here = Path(parent)
        folders[:] = [name for name in folders if here / name != skipped]
        for name in folders:
            if (here / name).is_symlink() or _has_video_suffix(name):
                yield here / name
        yield from (here / name for name in files if _has_video_suffix(name))


def _has_video_suffix(name: str) -> bool:
    # A hidden file such as `.mp4` has no suffix of its own in pathlib's eyes.
    return os.path.splitext(f"x{name}")[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def _source(folder: Path, path: Path) -> SourceFile:
    uri = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")
    return SourceFile(uri, path, _oddity(path))


def _oddity(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link that leads nowhere: {error.strerror}" if path.is_symlink() else f"unreadable: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "a link to a folder, which is not followed" if path.is_symlink() else "a folder, not a file"
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder: a pipe, socket or device"
    return "" if os.access(path, os.R_OK) else "unreadable: permission denied"


def read_annotations(folder: Path, sources: Sequence[SourceFile], licence: str) -> dict[str, Annotation]:
    """Label, caption, licence and provenance of every source by uri.

    They come from `sources.csv`; what it leaves out is derived: the label from the words of the file name, the
    caption from the label by a template, and `licence` for the licence.

    Raises:
        DataError: `sources.csv` is not usable; the line is named.
    """
    table = folder / SOURCES_CSV
    known = {source.uri for source in sources}
    rows = {row["file"]: row for row in _read_csv(table, known)} if table.is_file() else {}
    return {source.uri: _annotation(source.uri, rows.get(source.uri, {}), licence) for source in sources}


def _annotation(uri: str, row: dict[str, str], licence: str) -> Annotation:
    label = row.get("label") or label_from_name(uri)
    caption = row.get("caption", "")
    return Annotation(
        label=label,
        caption=caption or CAPTION_TEMPLATE.format(label=label),
        caption_from="source" if caption else "label_template",
        licence=row.get("licence") or licence,
        provenance=row.get("provenance") or UNKNOWN,
    )


def label_from_name(uri: str) -> str:
    """The words of a file name in lower case, numbers left out: `a/Dog_bark-02.mp4` is `dog bark`."""
    words = re.findall(r"[^\W\d_]+", Path(uri).stem.lower())
    return " ".join(words) or UNKNOWN


def _read_csv(table: Path, known: set[str]) -> Iterator[dict[str, str]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read: {error}; it must be a UTF-8 text file") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        if "file" not in (reader.fieldnames or ()):
            raise DataError(
                f"{table}: no column `file`, found {reader.fieldnames}; columns known: {', '.join(_COLUMNS)}"
            )
        seen: dict[str, int] = {}
        for row in reader:
            yield _checked(f"{table}, line {reader.line_num}", row, reader.line_num, known, seen)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: not valid CSV: {error}") from error


def _checked(where: str, row: dict[str, str], line: int, known: set[str], seen: dict[str, int]) -> dict[str, str]:
    if None in row:
        raise DataError(f"{where}: more values than columns; quote values that hold commas")
    clean = {name: " ".join((row.get(name) or "").split()) for name in _COLUMNS if name != "file"}
    file = (row["file"] or "").strip()
    if not file:
        raise DataError(f"{where}: `file` is empty; it must name a video relative to the folder")
    if file not in known:
        near = difflib.get_close_matches(file, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; name a video relative to the folder, or remove the line"
        raise DataError(f"{where}: no source is called {file!r}{hint}")
    if file in seen:
        raise DataError(f"{where}: {file!r} stands on line {seen[file]} already; keep one of them")
    seen[file] = line
    return clean | {"file": file}

"""From the configured source to its items: what kind it is, which rows it has, and a digest of all that would be read.

| `ingest.source` | items |
|---|---|
| `synth:` | the procedural world |
| a folder, a file, a pattern; the same as a URL | each video; a `sources.csv` in the folder tells more of them |
| a table: `.csv`, `.parquet`, `.jsonl` | each row: a file beside the table or a URL, whole or a span |
| a `.tar`, or a pattern that names tars | each sample |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from ...config.slices import IngestSlice
from ...errors import DataError
from ...stages.workspace import Workspace
from ..hash_cache import HashCache
from .captions import NO_CAPTION
from .folder import FoundFile, expand, found_file, has_pattern, list_folder
from .item import LocalFile, Location, RemoteFile, SourceItem, TarMember
from .items import Entry, described_items, matched_items, not_taken, table_items, taken, vggsound_items
from .names import has_video_suffix, scheme_of, shown_url, why_unsafe
from .remote import base_of, inquire, list_remote, read_whole
from .tables import TABLE_SUFFIXES, check_repeats, read_rows
from .tars import PACKED_SUFFIXES, TAR_SUFFIX, list_tar
from .vggsound import is_vggsound, read_vggsound
from .world import SYNTH_SOURCE, is_synth, resolve_world, world_digest

SOURCES_CSV = "sources.csv"
TRUTH_FILE = "truth.parquet"
_MAX_TABLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Listing:
    """The items of a source."""

    origin: str
    """the source in words, for messages"""
    items: list[SourceItem]
    """sorted by uri and range"""
    truth: Path | None = None
    """truth table of the procedural world"""


def listing_digest(config: IngestSlice, workspace: Workspace) -> str:
    """Hash of everything ingestion would read: rows, and the bytes of local files; of remote ones size and version.

    For the procedural world it is the hash of its configuration and code: equal ones make equal files.

    Raises:
        DataError: as `list_items`.
    """
    if is_synth(config):
        return world_digest(config)
    listing = list_items(config, workspace)
    cache = HashCache.open(workspace)
    cache.hash_local({path for item in listing.items if (path := _local_path(item.location))}, config.ingest.workers)
    digest = hashlib.sha256()
    for item in listing.items:
        content = _content(item.location, cache)
        row = [item.uri, astuple(item.range), astuple(item.annotation), item.reason, item.detail, content]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _local_path(location: Location | None) -> Path | None:
    place = location.tar if isinstance(location, TarMember) else location
    return place.path if isinstance(place, LocalFile) else None


def _content(location: Location | None, cache: HashCache) -> list[object]:
    match location:
        case LocalFile(path):
            return [cache.sha256_of_file(path)]
        case RemoteFile(url, size, token):
            return [shown_url(url), size, token]
        case TarMember(tar, offset, size):
            return [_content(tar, cache), offset, size]
    return []


def list_items(config: IngestSlice, workspace: Workspace) -> Listing:
    """All items of the configured source.

    Raises:
        DataError: the source does not exist, cannot be listed, holds no video, or its table is not usable.
    """
    source, licence = config.ingest.source, config.ingest.licence
    if is_synth(config):
        world = resolve_world(config, workspace)
        return Listing(str(world), _sorted(_folder_items(world, workspace, licence)), world / TRUTH_FILE)
    lister = _list_remote if scheme_of(source) else _list_local
    origin, found = lister(source, workspace, licence)
    items = _sorted(found)
    if not items:
        raise DataError(f"source {origin} has no row; give one that names at least one video")
    return Listing(origin, items)


def _sorted(items: Iterable[SourceItem]) -> list[SourceItem]:
    """In canonical order; an item that could be read, but of which nothing is known, is refused here."""
    checked = (
        item
        if item.reason or item.annotation.caption
        else replace(item, location=None, reason="no_caption", detail=NO_CAPTION)
        for item in items
    )
    return sorted(checked, key=lambda item: (item.uri, item.range))


# Sources on this machine ---------------------------------------------------------------------------------------------


def _list_local(source: str, workspace: Workspace, licence: str) -> tuple[str, Iterable[SourceItem]]:
    path = Path(source).expanduser().resolve()
    if path.is_dir():
        return f"folder {path}", _folder_items(path, workspace, licence)
    if path.exists():
        return str(path), _file_items(path, workspace, licence)
    if has_pattern(source):
        base, found = expand(source, workspace.root)
        return source, matched_items(source, [_local_entry(file) for file in found], base, licence)
    raise DataError(
        f"source folder {path} does not exist; give a folder of videos, a pattern, a table "
        f"({' '.join(TABLE_SUFFIXES)}), a .tar, a URL, or {SYNTH_SOURCE!r} for the procedural world"
    )


def _folder_items(folder: Path, workspace: Workspace, licence: str) -> Iterator[SourceItem]:
    entries = [_local_entry(file) for file in list_folder(folder, workspace.root)]
    if not entries:
        tars = "; for its tars give the pattern *.tar" if any(folder.glob(f"*{TAR_SUFFIX}")) else ""
        raise DataError(f"source folder {folder} holds no video; {taken()}{tars}")
    table = folder / SOURCES_CSV
    rows = list(read_rows(str(table), _read_local(table))) if table.is_file() else []
    return described_items(entries, rows, licence)


def _file_items(path: Path, workspace: Workspace, licence: str) -> Iterable[SourceItem]:
    name = path.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        data = _read_local(path)
        if is_vggsound(path.name, data):
            entries = [_local_entry(file) for file in list_folder(path.parent, workspace.root)]
            return vggsound_items(read_vggsound(str(path), data), entries, licence)
        return table_items(check_repeats(read_rows(str(path), data)), path, licence)
    if name.endswith(TAR_SUFFIX):
        return list_tar(path.name, LocalFile(path), licence)
    if has_video_suffix(path.name):
        return described_items([_local_entry(found_file(path.parent, path))], [], licence)
    raise DataError(f"source file {path} {not_taken(name)}")


def _local_entry(file: FoundFile) -> Entry:
    return Entry(file.uri, LocalFile(file.path), file.oddity)


def _read_local(table: Path) -> bytes:
    try:
        return table.read_bytes()
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from error


# Remote sources ------------------------------------------------------------------------------------------------------


def _list_remote(source: str, workspace: Workspace, licence: str) -> tuple[str, Iterable[SourceItem]]:  # noqa: ARG001
    if unsafe := why_unsafe(source):
        raise DataError(f"source {shown_url(source)}: {unsafe}")
    shown, path = shown_url(source), source.partition("?")[0]
    name = path.rpartition("/")[2]
    if base_of(path) != path.rstrip("/"):
        entries = [Entry(uri, file) for uri, file in list_remote(source).items()]
        return shown, matched_items(shown, entries, None, licence)
    if name.lower().endswith(TABLE_SUFFIXES):
        return shown, _remote_table(source, name, licence)
    if name.lower().endswith(TAR_SUFFIX) or has_video_suffix(name):
        file = inquire([source])[source]
        if file is None:
            raise DataError(f"source {shown} does not exist")
        is_tar = not has_video_suffix(name)
        return shown, list_tar(name, file, licence) if is_tar else described_items([Entry(name, file)], [], licence)
    if name.lower().endswith(PACKED_SUFFIXES):
        raise DataError(f"source {shown} {not_taken(name)}")
    return shown, _prefix_items(source, shown, licence)


def _prefix_items(source: str, shown: str, licence: str) -> Iterator[SourceItem]:
    files = list_remote(source)
    entries = [Entry(uri, file) for uri, file in files.items() if has_video_suffix(uri)]
    if not entries:
        raise DataError(f"source {shown} holds no video among {len(files)} files; {taken()}")
    table = files.get(SOURCES_CSV)
    rows = list(read_rows(shown_url(table.url), read_whole(table.url, _MAX_TABLE_BYTES))) if table else []
    return described_items(entries, rows, licence)


def _remote_table(source: str, name: str, licence: str) -> Iterable[SourceItem]:
    data = read_whole(source, _MAX_TABLE_BYTES)
    if is_vggsound(name, data):
        folder = source.partition("?")[0].rpartition("/")[0]
        entries = [Entry(uri, file) for uri, file in list_remote(folder).items() if has_video_suffix(uri)]
        return vggsound_items(read_vggsound(name, data), entries, licence)
    return table_items(check_repeats(read_rows(name, data)), source, licence)

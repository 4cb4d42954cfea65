"""From the configured source to its items: what kind it is, which rows it has, and a digest of all that would be read.

| `ingest.source` | items |
|---|---|
| `synth:` | the procedural world |
| a folder, a file, a pattern; the same as a URL | each video; a `sources.csv` in the folder tells more of them |
| a table: `.csv`, `.parquet`, `.jsonl` | each row: a file beside the table or a URL, whole or a span |
| a `.tar`, or a pattern that names tars | each sample |
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from ...config.slices import IngestSlice
from ...errors import DataError
from ...stages.workspace import Workspace
from ..hash_cache import HashCache
from .captions import NO_CAPTION, annotate, label_from_name
from .folder import FoundFile, expand, found_file, has_pattern, list_folder, oddity_of
from .item import Annotation, LocalFile, Location, RemoteFile, SourceItem, TarMember
from .names import VIDEO_SUFFIXES, has_video_suffix, scheme_of, shown_url, why_unsafe
from .remote import base_of, beside, inquire, list_remote, read_whole
from .tables import TABLE_SUFFIXES, TableRow, check_repeats, read_rows
from .tars import PACKED_SUFFIXES, TAR_SUFFIX, list_tar
from .vggsound import VggSoundFiles, VggSoundRow, is_vggsound, read_vggsound
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


@dataclass(frozen=True)
class _Entry:
    """A file that a place holds."""

    uri: str
    location: Location
    oddity: str = ""


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
    origin, items = lister(source, workspace, licence)
    return Listing(origin, _sorted(items))


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
        return source, _matches(source, [_local_entry(file) for file in found], base, licence)
    raise DataError(
        f"source folder {path} does not exist; give a folder of videos, a pattern, a table ({_words(TABLE_SUFFIXES)}), "
        f"a .tar, a URL, or {SYNTH_SOURCE!r} for the procedural world"
    )


def _folder_items(folder: Path, workspace: Workspace, licence: str) -> Iterator[SourceItem]:
    entries = [_local_entry(file) for file in list_folder(folder, workspace.root)]
    if not entries:
        tars = "; for its tars give the pattern *.tar" if any(folder.glob(f"*{TAR_SUFFIX}")) else ""
        raise DataError(f"source folder {folder} holds no video; {_taken()}{tars}")
    table = folder / SOURCES_CSV
    rows = list(read_rows(str(table), _read_local(table))) if table.is_file() else []
    return _described(entries, rows, licence)


def _file_items(path: Path, workspace: Workspace, licence: str) -> Iterable[SourceItem]:
    name = path.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        data = _read_local(path)
        if is_vggsound(path.name, data):
            entries = [_local_entry(file) for file in list_folder(path.parent, workspace.root)]
            return _vggsound_items(read_vggsound(str(path), data), entries, licence)
        return _table_items(check_repeats(read_rows(str(path), data)), path, licence)
    if name.endswith(TAR_SUFFIX):
        return list_tar(path.name, LocalFile(path), licence)
    if has_video_suffix(path.name):
        return _described([_local_entry(found_file(path.parent, path))], [], licence)
    raise DataError(f"source file {path} {_not_taken(name)}")


def _local_entry(file: FoundFile) -> _Entry:
    return _Entry(file.uri, LocalFile(file.path), file.oddity)


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
        entries = [_Entry(uri, file) for uri, file in list_remote(source).items()]
        return shown, _matches(shown, entries, None, licence)
    if name.lower().endswith(TABLE_SUFFIXES):
        return shown, _remote_table(source, name, licence)
    if name.lower().endswith(TAR_SUFFIX) or has_video_suffix(name):
        file = inquire([source])[source]
        if file is None:
            raise DataError(f"source {shown} does not exist")
        is_tar = not has_video_suffix(name)
        return shown, list_tar(name, file, licence) if is_tar else _described([_Entry(name, file)], [], licence)
    if name.lower().endswith(PACKED_SUFFIXES):
        raise DataError(f"source {shown} {_not_taken(name)}")
    return shown, _prefix_items(source, shown, licence)


def _prefix_items(source: str, shown: str, licence: str) -> Iterator[SourceItem]:
    files = list_remote(source)
    entries = [_Entry(uri, file) for uri, file in files.items() if has_video_suffix(uri)]
    if not entries:
        raise DataError(f"source {shown} holds no video among {len(files)} files; {_taken()}")
    table = files.get(SOURCES_CSV)
    rows = list(read_rows(shown_url(table.url), read_whole(table.url, _MAX_TABLE_BYTES))) if table else []
    return _described(entries, rows, licence)


def _remote_table(source: str, name: str, licence: str) -> Iterable[SourceItem]:
    data = read_whole(source, _MAX_TABLE_BYTES)
    if is_vggsound(name, data):
        folder = source.partition("?")[0].rpartition("/")[0]
        entries = [_Entry(uri, file) for uri, file in list_remote(folder).items() if has_video_suffix(uri)]
        return _vggsound_items(read_vggsound(name, data), entries, licence)
    return _table_items(check_repeats(read_rows(name, data)), source, licence)


# Rows ----------------------------------------------------------------------------------------------------------------


def _matches(source: str, entries: Sequence[_Entry], base: Path | None, licence: str) -> Iterator[SourceItem]:
    """Items of the videos and tars that a pattern names; other files are none, even where it names them."""
    videos = [entry for entry in entries if has_video_suffix(entry.uri)]
    tars = [entry for entry in entries if entry.uri.lower().endswith(TAR_SUFFIX)]
    if not videos and not tars:
        where = "" if base is None or base.is_dir() else f"; there is no folder {base}"
        raise DataError(f"{source} names no video and no .tar among {len(entries)} entries{where}; {_taken()}")
    yield from _described(videos, [], licence)
    for entry in tars:
        if entry.oddity:
            yield SourceItem(entry.uri, None, annotate({}, licence), reason="not_media", detail=entry.oddity)
        elif not isinstance(entry.location, TarMember):
            yield from list_tar(entry.uri, entry.location, licence)


def _described(entries: Sequence[_Entry], rows: Sequence[TableRow], licence: str) -> Iterator[SourceItem]:
    """Items of listed files: one for each row of `sources.csv` that names it, one for a file that no row names.

    What the rows leave out is derived: the label from the words of the name, the caption from the label.
    """
    told: dict[str, list[TableRow]] = defaultdict(list)
    known = {entry.uri for entry in entries}
    for row in check_repeats(_named(row, known) for row in rows):
        told[row.file].append(row)
    for entry in entries:
        label = label_from_name(entry.uri)
        if entry.uri not in told:
            yield _item(entry, annotate({}, licence, label))
        for row in told[entry.uri]:
            yield replace(_item(entry, annotate(row.words, licence, label)), range=row.range)


def _named(row: TableRow, known: set[str]) -> TableRow:
    name = row.file if row.file in known else row.file.strip()
    if name in known:
        return replace(row, file=name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; name a video relative to the folder, or remove the line"
    raise DataError(f"{row.where}: no source is called {name!r}{hint}")


def _item(entry: _Entry, annotation: Annotation) -> SourceItem:
    reason = "not_media" if entry.oddity else ""
    location = None if entry.oddity else entry.location
    return SourceItem(entry.uri, location, annotation, reason=reason, detail=entry.oddity)


def _table_items(rows: Sequence[TableRow], table: Path | str, licence: str) -> Iterator[SourceItem]:
    """Items of a table's rows; a row whose file is not there, or whose name is not followed, is a reject."""
    urls = {row.where: url for row in rows if (url := _url_of(row, table))}
    remote = inquire(urls.values())
    for row in rows:
        uri = shown_url(row.file) if scheme_of(row.file) else row.file
        item = SourceItem(uri, None, annotate(row.words, licence), row.range)
        if unsafe := why_unsafe(row.file):
            yield replace(item, reason="unsafe_name", detail=unsafe)
        elif row.where in urls:
            file = remote[urls[row.where]]
            yield replace(item, location=file) if file else replace(item, **_missing("nothing lies at its address"))
        else:
            assert isinstance(table, Path)
            yield _beside_table(item, row, table)


def _url_of(row: TableRow, table: Path | str) -> str:
    """Address of a row's file, empty for a file on this machine and for a name that is not followed."""
    if why_unsafe(row.file):
        return ""
    if scheme_of(row.file):
        return row.file
    return "" if isinstance(table, Path) else beside(table, row.file)


def _beside_table(item: SourceItem, row: TableRow, table: Path) -> SourceItem:
    path = table.parent / row.file
    if not path.exists() and not path.is_symlink():
        path = table.parent / row.file.strip()
    if not path.exists() and not path.is_symlink():
        return replace(item, **_missing("no such file beside the table"))
    entry = _Entry(item.uri, LocalFile(path), oddity_of(path))
    return replace(_item(entry, item.annotation), range=item.range)


def _vggsound_items(rows: Sequence[VggSoundRow], entries: Sequence[_Entry], licence: str) -> Iterator[SourceItem]:
    by_uri = {entry.uri: entry for entry in entries}
    files = VggSoundFiles(by_uri)
    for row in rows:
        annotation = annotate(row.words, licence)
        found = files.find(row)
        if found is None:
            absent = _missing(f"no file of {row.youtube_id} from {row.start_sec} s beside the table")
            yield SourceItem(row.expected_name, None, annotation, **absent)
        else:
            uri, part = found
            yield replace(_item(by_uri[uri], annotation), range=part)


def _missing(detail: str) -> dict[str, str]:
    return {"reason": "missing", "detail": detail}


def _taken() -> str:
    return f"files with one of these suffixes are taken, in subfolders too: {_words(sorted(VIDEO_SUFFIXES))}"


def _not_taken(name: str) -> str:
    if name.lower().endswith(PACKED_SUFFIXES):
        return "is a compressed tar, whose members cannot be read by their place; unpack it to a plain .tar"
    return f"is neither a video, nor a table ({_words(TABLE_SUFFIXES)}), nor a .tar"


def _words(suffixes: Iterable[str]) -> str:
    return " ".join(suffixes)

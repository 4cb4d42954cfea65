"""Items from what a place holds and what a table says of it; a row that cannot be followed becomes a named reject."""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DataError
from .captions import annotate, label_from_name
from .folder import oddity_of
from .item import Annotation, LocalFile, Location, SourceItem, TarMember
from .names import VIDEO_SUFFIXES, has_video_suffix, scheme_of, shown_url, why_unsafe
from .remote import beside, in_parallel, inquire
from .tables import TABLE_SUFFIXES, TableRow, check_repeats
from .tars import PACKED_SUFFIXES, TAR_SUFFIX, list_tar
from .vggsound import VggSoundFiles, VggSoundRow


@dataclass(frozen=True)
class Entry:
    """A file that a place holds."""

    uri: str
    location: Location
    oddity: str = ""


def matched_items(source: str, entries: Sequence[Entry], base: Path | None, licence: str) -> Iterator[SourceItem]:
    """Items of the videos and tars that a pattern names; other files are none, even where it names them."""
    videos = [entry for entry in entries if has_video_suffix(entry.uri)]
    tars = [entry for entry in entries if entry.uri.lower().endswith(TAR_SUFFIX)]
    if not videos and not tars:
        where = "" if base is None or base.is_dir() else f"; there is no folder {base}"
        raise DataError(f"{source} names no video and no .tar among {len(entries)} entries{where}; {taken()}")
    yield from described_items(videos, [], licence)
    for found in in_parallel(lambda entry: _tar_items(entry, licence), tars):
        yield from found


def _tar_items(entry: Entry, licence: str) -> list[SourceItem]:
    if entry.oddity or isinstance(entry.location, TarMember):
        return [SourceItem(entry.uri, None, annotate({}, licence), reason="not_media", detail=entry.oddity)]
    return list_tar(entry.uri, entry.location, licence)


def described_items(entries: Sequence[Entry], rows: Sequence[TableRow], licence: str) -> Iterator[SourceItem]:
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


def _item(entry: Entry, annotation: Annotation) -> SourceItem:
    reason = "not_media" if entry.oddity else ""
    location = None if entry.oddity else entry.location
    return SourceItem(entry.uri, location, annotation, reason=reason, detail=entry.oddity)


def table_items(rows: Sequence[TableRow], table: Path | str, licence: str) -> Iterator[SourceItem]:
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
            yield replace(item, location=file) if file else _absent(item, "nothing lies at its address")
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
    # Written as it is called, or with spaces around that no one meant; a name too long for a file is no file's.
    path = next((one for name in (row.file, row.file.strip()) if os.path.lexists(one := table.parent / name)), None)
    if path is None:
        return _absent(item, "no such file beside the table")
    entry = Entry(item.uri, LocalFile(path), oddity_of(path))
    return replace(_item(entry, item.annotation), range=item.range)


def vggsound_items(rows: Sequence[VggSoundRow], entries: Sequence[Entry], licence: str) -> Iterator[SourceItem]:
    """Items of VGGSound's rows, each with its file among `entries`; a row without one is a reject."""
    by_uri = {entry.uri: entry for entry in entries}
    files = VggSoundFiles(by_uri)
    for row in rows:
        annotation = annotate(row.words, licence)
        found = files.find(row)
        if found is None:
            item = SourceItem(row.expected_name, None, annotation)
            yield _absent(item, f"no file of {row.youtube_id} from {row.start_sec} s beside the table")
        else:
            uri, part = found
            yield replace(_item(by_uri[uri], annotation), range=part)


def _absent(item: SourceItem, detail: str) -> SourceItem:
    return replace(item, reason="missing", detail=detail)


def taken() -> str:
    """Which files are videos, in words."""
    return f"files with one of these suffixes are taken, in subfolders too: {_words(sorted(VIDEO_SUFFIXES))}"


def not_taken(name: str) -> str:
    """Why a file of this name is no source, in words."""
    if name.lower().endswith(PACKED_SUFFIXES):
        return "is a compressed tar, whose members cannot be read by their place; unpack it to a plain .tar"
    return f"is neither a video, nor a table ({_words(TABLE_SUFFIXES)}), nor a .tar"


def _words(suffixes: Iterable[str]) -> str:
    return " ".join(suffixes)

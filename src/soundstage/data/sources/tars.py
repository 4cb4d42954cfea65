"""WebDataset tars: samples are members that share a key, and each video is found by its place, not unpacked.

The key of a member is its path up to the first dot of the file name, the rest is its extension (the convention of the
`webdataset` library). A sample's `.json` may hold caption (or text), label, licence (or license) and provenance, its
`.txt` the caption.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any

from .captions import annotate
from .item import LocalFile, RemoteFile, SourceItem, TarMember
from .names import has_video_suffix, why_unsafe
from .remote import open_seekable, words_of
from .tables import COLUMNS

TAR_SUFFIX = ".tar"
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_KEY = re.compile(r"^((?:.*/)?[^/.]+)\.([^/]+)$", re.DOTALL)
_MAX_METADATA_BYTES = 1 << 20


@dataclass
class _Sample:
    """Members of one key."""

    videos: list[tarfile.TarInfo] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    """why its metadata cannot be used"""


def list_tar(uri: str, tar: LocalFile | RemoteFile, licence: str) -> list[SourceItem]:
    """Items of a tar: its videos as `uri#member`, samples without one, and the tar itself where it cannot be read."""
    samples: dict[str, _Sample] = {}
    length = tar.size if isinstance(tar, RemoteFile) else None
    items: list[SourceItem] = []
    try:
        with closing(_open(tar)) as stream:
            trouble = _read_members(stream, samples)
            length = stream.seek(0, os.SEEK_END) if length is None else length
    except Exception as error:
        trouble = ("unreachable" if isinstance(tar, RemoteFile) else "damaged"), words_of(error)
    if trouble:
        items.append(SourceItem(uri, None, annotate({}, licence), reason=trouble[0], detail=trouble[1]))
    for key, sample in samples.items():
        items.extend(_items(uri, tar, length, key, sample, licence))
    return items


def _open(tar: LocalFile | RemoteFile) -> IO[bytes]:
    return tar.path.open("rb") if isinstance(tar, LocalFile) else open_seekable(tar)


def _read_members(stream: IO[bytes], samples: dict[str, _Sample]) -> tuple[str, str] | None:
    """Fill `samples`; returns reject reason and detail when the tar ends before it should."""
    last = ""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                _add(archive, member, samples)
                last = member.name
                # The library keeps every header it has seen; a tar may hold millions.
                archive.members = []  # type: ignore[attr-defined]
            place = archive.offset
    except tarfile.ReadError as error:
        return ("damaged", f"cut short after {last!r}: {error}") if last else ("not_media", f"no tar: {error}")
    # The library takes a header that it cannot read for the end.
    stream.seek(place)
    if any(stream.read(tarfile.BLOCKSIZE)):
        return "damaged", f"no header is readable after {last!r}, at byte {place}"
    return None


def _add(archive: tarfile.TarFile, member: tarfile.TarInfo, samples: dict[str, _Sample]) -> None:
    match = _KEY.match(member.name)
    is_video = has_video_suffix(member.name)
    if member.isdir() or not (match or is_video):
        return
    # A video whose name begins with a dot has no key; it is a sample of its own.
    key, extension = (match[1], match[2].lower()) if match else (member.name, "")
    sample = samples.setdefault(key, _Sample())
    if is_video:
        sample.videos.append(member)
        return
    sample.others.append(member.name)
    if member.isfile() and extension in ("json", "txt"):
        _add_words(sample, extension, archive, member)


def _add_words(sample: _Sample, kind: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    if member.size > _MAX_METADATA_BYTES:
        sample.trouble = f"{member.name} has {member.size} bytes; metadata may have {_MAX_METADATA_BYTES}"
        return
    opened = archive.extractfile(member)
    assert opened is not None
    try:
        text = opened.read().decode("utf-8-sig")
        sample.words |= _words_of_json(json.loads(text)) if kind == "json" else {}
        if kind == "txt":
            # A caption in the JSON goes before the text beside it, in whatever order they come.
            sample.words.setdefault("caption", " ".join(text.split()))
    except ValueError as error:
        sample.trouble = f"{member.name} cannot be used: {error}"


def _words_of_json(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    words = {}
    for ours in ("caption", "label", "licence", "provenance"):
        found = next((value[name] for name in COLUMNS[ours] if value.get(name)), "")
        if not isinstance(found, str | int | float):
            raise ValueError(f"`{ours}` must be text, found {type(found).__name__}")
        # Half a surrogate pair is a ValueError here; no record could hold it.
        if text := " ".join(str(found).encode().decode().split()):
            words[ours] = text
    return words


def _items(
    uri: str, tar: LocalFile | RemoteFile, length: int | None, key: str, sample: _Sample, licence: str
) -> Iterator[SourceItem]:
    annotation = annotate(sample.words, licence)
    if not sample.videos:
        detail = f"no member of the sample is a video; its members: {_printed(', '.join(sample.others))}"
        yield SourceItem(f"{uri}#{_printed(key)}", None, annotation, reason="no_video", detail=detail)
    for member in sample.videos:
        reason, detail = _trouble(member, sample, length)
        location = None if reason else TarMember(tar, member.offset_data, member.size)
        yield SourceItem(f"{uri}#{_printed(member.name)}", location, annotation, reason=reason, detail=detail)


def _trouble(member: tarfile.TarInfo, sample: _Sample, length: int | None) -> tuple[str, str]:
    if unsafe := why_unsafe(member.name):
        return "unsafe_name", unsafe
    if not member.isfile() or member.issparse():
        return "not_media", "not a plain file in the tar: a link, a device or a file with holes"
    if length is not None and member.offset_data + member.size > length:
        return "damaged", f"the tar ends after {length - member.offset_data} of its {member.size} bytes"
    return ("damaged", sample.trouble) if sample.trouble else ("", "")


def _printed(name: str) -> str:
    # A tar's names are bytes; those that are no UTF-8 are written as escapes.
    return os.fsencode(name).decode("utf-8", "backslashreplace")

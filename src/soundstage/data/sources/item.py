"""What ingestion is given: one item for each row of a source, with the place of its bytes and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path


@dataclass(frozen=True)
class RemoteFile:
    """An object of a store or a web server."""

    url: str
    size: int | None = None
    """bytes, None when the server does not say"""
    token: str = ""
    """what the server says of this version (its ETag, its time of change); empty when it says nothing"""
    settled: bool = True
    """False while the token may stay the same though the file changes: a time in whole seconds, and just now"""


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar, read by its place and never unpacked with the others."""

    tar: LocalFile | RemoteFile
    offset: int
    """of its first byte"""
    size: int


Location = LocalFile | RemoteFile | TarMember


@dataclass(frozen=True, order=True)
class Range:
    """A part of a source, in microseconds after its first picture."""

    start_us: int = 0
    end_us: int = -1
    """-1: to the end of the source"""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the source."""
        return self == WHOLE

    @property
    def duration_us(self) -> int:
        """Length where it is known beforehand, 0 for a range that reaches to the end of the source."""
        return max(0, self.end_us - self.start_us) if self.end_us >= 0 else 0


WHOLE = Range()


@dataclass(frozen=True)
class Annotation:
    """What is known of an item beside its bytes."""

    label: str
    caption: str
    """empty when the source states neither caption nor label: nothing can be derived then"""
    caption_from: str
    """source | label_template"""
    licence: str
    provenance: str


@dataclass(frozen=True)
class SourceItem:
    """One row of a source: a file, or a range of one."""

    uri: str
    """name in the records: relative to the folder or table, `TAR#MEMBER` in a tar, else a URL; bytes of a file name
    that are no UTF-8 are written as escapes"""
    location: Location | None
    """None when there is nothing that could be read; `reason` then says why"""
    annotation: Annotation
    range: Range = WHOLE
    reason: str = ""
    """reject reason that is known without reading the file"""
    detail: str = ""

"""A source's bytes as a file on this machine for as long as it is worked on: one at a time, hashed as they come."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..media.opening import SourceError
from ..stages.files import sha256_file
from .sources.item import LocalFile, Location, RemoteFile, TarMember
from .sources.remote import read_range, stream, with_retries

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FetchLimits:
    """What fetching a file may cost."""

    scratch: Path
    """folder for files that are not on this machine"""
    max_bytes: int
    timeout_sec: float
    attempts: int


@dataclass(frozen=True)
class LocalCopy:
    """A file that can be decoded, and the hash of its bytes."""

    path: Path
    sha256: str


@contextmanager
def local_copy(location: Location, known_sha256: str, limits: FetchLimits) -> Iterator[LocalCopy]:
    """Bring a source to this machine; what was fetched is removed afterwards. `known_sha256` may be empty.

    Raises:
        SourceError: `missing`, `unreachable`, `too_large`; `not_media` for a local file that cannot be read.
    """
    if isinstance(location, LocalFile):
        yield LocalCopy(location.path, known_sha256 or _hash(location.path))
        return
    folder = scratch_of(limits.scratch, os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        # Some demuxers go by the suffix; the rest of the name is a stranger's and stays out of the file system.
        target = folder / f"source{_suffix(location)}"
        yield LocalCopy(target, _fetch(location, target, limits))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_of(scratch: Path, pid: int) -> Path:
    """Where the process `pid` keeps the file it has fetched."""
    return scratch / f"fetched-{pid}"


def _suffix(location: RemoteFile | TarMember) -> str:
    name = location.url.partition("?")[0] if isinstance(location, RemoteFile) else ""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 8 else ""


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise SourceError("not_media", f"unreadable: {error.strerror}") from error


def _fetch(location: RemoteFile | TarMember, target: Path, limits: FetchLimits) -> str:
    if location.size is not None and location.size > limits.max_bytes:
        raise SourceError("too_large", _too_large(f"{location.size} bytes", limits))
    deadline = time.monotonic() + limits.timeout_sec
    return with_retries(lambda: _download(location, target, limits, deadline), limits.attempts, deadline)


def _download(location: RemoteFile | TarMember, target: Path, limits: FetchLimits, deadline: float) -> str:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for block in _blocks(location):
            digest.update(block)
            size += len(block)
            if size > limits.max_bytes:
                raise SourceError("too_large", _too_large(f"more than {limits.max_bytes} bytes", limits))
            if time.monotonic() > deadline:
                raise SourceError(
                    "unreachable", f"fetching takes longer than {limits.timeout_sec:g} s (ingest.fetch_timeout_sec)"
                )
            file.write(block)
    if location.size is not None and size != location.size:
        raise OSError(f"got {size} of {location.size} bytes")
    return digest.hexdigest()


def _too_large(found: str, limits: FetchLimits) -> str:
    return f"{found} to fetch; at most {limits.max_bytes} allowed (ingest.max_fetch_gib)"


def _blocks(location: RemoteFile | TarMember) -> Iterator[bytes]:
    if isinstance(location, RemoteFile):
        return stream(location)
    if isinstance(location.tar, RemoteFile):
        return read_range(location.tar, location.offset, location.size)
    return _read_part(location.tar.path, location.offset, location.size)


def _read_part(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while size and (block := file.read(min(_BLOCK, size))):
            size -= len(block)
            yield block

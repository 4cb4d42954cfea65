"""Hashes of sources that were read before, so that an untouched file is read once for all runs.

A file is taken for untouched when its path, size, inode, and times of change of content and of inode are the same.
The last cannot be set by hand, so a file changed in place and given its old time back is read again. A file changed so
recently that a further change might leave the same times is not remembered (git's "racy" entries).

The cache is a file of lines in the workspace, appended to while hashing goes on: a killed run loses at most a line,
and a line that is cut off is not read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..stages.files import exclusive_lock, sha256_file, write_text
from ..stages.progress import Progress
from ..stages.workspace import Workspace

_SETTLED_NS = 2_000_000_000
_PORTION = 1024
Signature = Sequence[int | str]


class HashCache:
    """SHA-256 by key; an entry holds only for the signature it was taken with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[list[int | str], str]] = {}
        self._fresh: dict[Path, str] = {}
        """files hashed by this object: a run sees one content of each"""
        self._appended = False
        lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []
        for line in lines:
            self._take(line)
        if len(lines) > 2 * len(self._known) + 1000:
            self._rewrite()

    @staticmethod
    def open(workspace: Workspace) -> HashCache:
        """The cache of a workspace."""
        return HashCache(workspace.media / "hashes.jsonl")

    def _take(self, line: str) -> None:
        try:
            key, signature, sha256 = json.loads(line)
            self._known[key] = (list(signature), sha256)
        except (ValueError, TypeError):
            # The line a killed process was writing.
            return

    def _rewrite(self) -> None:
        with exclusive_lock(self._path.with_name(f".{self._path.name}.lock")):
            entries = [json.dumps([key, *entry]) for key, entry in sorted(self._known.items())]
            write_text(self._path, "".join(f"{entry}\n" for entry in entries))

    def get(self, key: str, signature: Signature) -> str:
        """The hash remembered for `key` if its signature is still this one, else empty."""
        found = self._known.get(key)
        return found[1] if found and found[0] == list(signature) else ""

    def put(self, key: str, signature: Signature, sha256: str) -> None:
        """Remember a hash."""
        if self.get(key, signature) == sha256:
            return
        self._known[key] = (list(signature), sha256)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = f"{json.dumps([key, list(signature), sha256])}\n"
        with exclusive_lock(self._path.with_name(f".{self._path.name}.lock")), self._path.open("a") as stream:
            # What another process wrote last may have been cut off.
            stream.write(line if self._appended else f"\n{line}")
        self._appended = True

    def hash_local(self, paths: Collection[Path], workers: int) -> None:
        """Hash all files whose hash is not known, `workers` at a time; afterwards `sha256_of_file` is a look-up."""
        unknown = sorted(path for path in set(paths) if not self._remembered(path))
        if not unknown:
            return
        with ThreadPoolExecutor(workers) as pool, Progress("hash sources", len(unknown), "file") as progress:
            # In portions: a pool keeps an object for every item it is given.
            for start in range(0, len(unknown), _PORTION):
                portion = unknown[start : start + _PORTION]
                for path, found in zip(portion, pool.map(_hash, portion), strict=True):
                    self._learn(path, *found)
                    progress.advance()

    def sha256_of_file(self, path: Path) -> str:
        """Hash of a local file, empty when it cannot be read."""
        known = self._remembered(path)
        return known or self._learn(path, *_hash(path))

    def _remembered(self, path: Path) -> str:
        if path in self._fresh:
            return self._fresh[path]
        signature = _signature(path)
        return self.get(str(path), signature) if signature else ""

    def _learn(self, path: Path, sha256: str, signature: Signature | None) -> str:
        self._fresh[path] = sha256
        if signature is not None:
            self.put(str(path), signature, sha256)
        return sha256


def settled_signature(path: Path) -> Signature | None:
    """What must stay the same of a file for its hash to hold; None for one that is absent or changed just now."""
    now_ns, found = time.time_ns(), _signature(path)
    return found if found is not None and max(found[1:3]) < now_ns - _SETTLED_NS else None


def _hash(path: Path) -> tuple[str, Signature | None]:
    """Hash of a file, and the signature under which it may be remembered."""
    before = settled_signature(path)
    try:
        sha256 = sha256_file(path)
    except OSError:
        return "", None
    return sha256, before if _signature(path) == before else None


def _signature(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]

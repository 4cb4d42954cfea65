"""Stores and web servers through fsspec: what lies there, in which version, and its bytes as they come.

Credentials and endpoints come from the environment, as each store's own tools take them (AWS_*, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_S3_ANON=true, ...), never from the configuration: it is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote

from ...errors import DataError
from ...media.opening import SourceError
from .item import RemoteFile
from .names import scheme_of

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_PROTOCOLS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
# The first of these that a server gives names a version; those of the second line are times.
_TOKENS = ("ETag", "etag", "generation", "md5Hash", "crc32c", "Content-MD5", "Digest")
_TIMES = ("LastModified", "Last-Modified", "mtime", "updated")
# Clocks of servers and of this machine may differ by about as much.
_SETTLED_SEC = 60.0
_SILENCE_SEC = 60.0
_BLOCK = 1 << 20
_RANGE_BLOCK = 8 << 20
_INQUIRIES = 16
_PORTION = 1024
_FIRST_PAUSE_SEC = 0.5
_MAX_WORDS = 300
_GONE = (404, 410)


def list_remote(url: str) -> dict[str, RemoteFile]:
    """All files below a prefix, or that a pattern with `*` or `[` names, by their path after the fixed part.

    Raises:
        DataError: the place cannot be listed.
    """
    base = base_of(url)
    try:
        files = _filesystem(url)
        root = files._strip_protocol(base)
        is_pattern = base.rstrip("/") != url.rstrip("/")
        found = files.glob(url, detail=True) if is_pattern else files.find(root.rstrip("/") + "/", detail=True)
    except Exception as error:
        raise DataError(f"{url} cannot be listed: {words_of(error)}; check address, credentials and network") from error
    inside = {name: info for name, info in found.items() if info.get("type") == "file"}
    urls = {name: files.unstrip_protocol(name) if scheme_of(name) == "" else name for name in inside}
    known = {urls[name]: _described(urls[name], info) for name, info in inside.items()}
    unsure = [file.url for file in known.values() if not file.token]
    known |= {url: file for url, file in inquire(unsure).items() if isinstance(file, RemoteFile)}
    prefix = root.rstrip("/") + "/"
    # Addresses are quoted, names are not.
    named = unquote if scheme_of(url).startswith("http") else str
    return {named(name.removeprefix(prefix)): known[urls[name]] for name in sorted(inside)}


def base_of(url: str) -> str:
    """The part of a URL before the first of its segments that holds a pattern, without a slash at its end."""
    head, _, path = url.partition("://")
    fixed: list[str] = []
    for segment in path.split("/"):
        if set("*[") & set(segment):
            break
        fixed.append(segment)
    return f"{head}://{'/'.join(fixed).rstrip('/')}"


def beside(url: str, name: str) -> str:
    """The address of `name` in the folder of `url`."""
    folder = url.partition("?")[0].rpartition("/")[0]
    # Web addresses give ?, # and % a meaning; keys of a store do not.
    return f"{folder}/{quote(name) if scheme_of(url).startswith('http') else name}"


def inquire(urls: Iterable[str]) -> dict[str, RemoteFile | None]:
    """What the servers say of each address; None for one at which nothing lies.

    A server that does not answer leaves size and version unknown: fetching will tell.
    """
    wanted = list(dict.fromkeys(urls))
    return dict(zip(wanted, in_parallel(_inquire, wanted), strict=True))


def in_parallel(function: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> Iterator[ResultT]:
    """Results in the order of `items`, several worked on at once: most of the time is spent waiting for a server."""
    with ThreadPoolExecutor(_INQUIRIES) as pool:
        # In portions: a pool keeps an object for every item it is given.
        for start in range(0, len(items), _PORTION):
            yield from pool.map(function, items[start : start + _PORTION])


def _inquire(url: str) -> RemoteFile | None:
    try:
        return _described(url, _filesystem(url).info(url))
    except Exception as error:
        return None if _is_gone(error) else RemoteFile(url)


def _described(url: str, info: Mapping[str, Any]) -> RemoteFile:
    token = next((info[name] for name in (*_TOKENS, *_TIMES) if info.get(name)), "")
    by_time = not any(info.get(name) for name in _TOKENS)
    size = info.get("size")
    return RemoteFile(url, None if size is None else int(size), str(token), not (by_time and _is_young(token)))


def _is_young(changed: Any) -> bool:
    """Whether a time of change, as servers write it, is of this minute; one that cannot be read counts as such."""
    try:
        when = changed if isinstance(changed, datetime) else parsedate_to_datetime(str(changed))
        return when.timestamp() > time.time() - _SETTLED_SEC
    except (ValueError, TypeError):
        return True


def read_whole(url: str, max_bytes: int) -> bytes:
    """The bytes of a small file, such as a table.

    Raises:
        DataError: it cannot be read, or is larger than `max_bytes`.
    """
    content = bytearray()
    try:
        for block in stream(RemoteFile(url)):
            content += block
            if len(content) > max_bytes:
                raise DataError(f"{url} is larger than the {max_bytes} bytes that a table may have")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{url} cannot be read: {words_of(error)}; check address, credentials and network") from error
    return bytes(content)


def stream(file: RemoteFile) -> Iterator[bytes]:
    """The bytes of a file in order, in one request where the server is a web server."""
    is_web = scheme_of(file.url).startswith("http")
    how: dict[str, Any] = {"block_size": 0} if is_web else {"block_size": _RANGE_BLOCK, "cache_type": "readahead"}
    with _filesystem(file.url).open(file.url, "rb", **how) as opened:
        while block := opened.read(_BLOCK):
            yield block


def read_range(file: RemoteFile, offset: int, size: int) -> Iterator[bytes]:
    """`size` bytes of a file from `offset`.

    Raises:
        OSError: the server sends another amount: it serves no ranges, or the file has changed.
    """
    files = _filesystem(file.url)
    for start in range(offset, offset + size, _RANGE_BLOCK):
        end = min(start + _RANGE_BLOCK, offset + size)
        block: bytes = files.cat_file(file.url, start=start, end=end)
        if len(block) != end - start:
            raise OSError(f"asked for {end - start} bytes from {start}, got {len(block)}: the server serves no ranges")
        yield block


def open_seekable(file: RemoteFile) -> IO[bytes]:
    """A file to read here and there, in small blocks."""
    opened: IO[bytes] = _filesystem(file.url).open(file.url, "rb", block_size=1 << 16, cache_type="readahead")
    return opened


def with_retries(read: Callable[[], ResultT], attempts: int, deadline: float) -> ResultT:
    """What `read` returns; it is tried up to `attempts` times, with growing pauses, until `deadline` (monotonic).

    Raises:
        SourceError: `missing`, or `unreachable` with the last error's words.
    """
    for attempt in range(1, attempts + 1):
        try:
            return read()
        except (SourceError, MemoryError):
            raise
        except Exception as error:
            if _is_gone(error):
                raise SourceError("missing", "nothing lies at its address") from error
            pause = _FIRST_PAUSE_SEC * 2 ** (attempt - 1)
            if attempt == attempts or isinstance(error, PermissionError) or time.monotonic() + pause > deadline:
                raise SourceError("unreachable", f"cannot be fetched: {words_of(error)}") from error
            time.sleep(pause)
    raise AssertionError("attempts must be positive")


def words_of(error: BaseException) -> str:
    """The words of an error and of what caused it, on one line."""
    cause = error.__cause__
    text = f"{type(error).__name__}: {error}" + (f" ({type(cause).__name__}: {cause})" if cause is not None else "")
    return " ".join(text.split())[:_MAX_WORDS]


def _is_gone(error: BaseException) -> bool:
    if not isinstance(error, FileNotFoundError):
        return False
    cause = error.__cause__
    # The web file system calls every failure of an inquiry "not found"; the cause knows better.
    if cause is not None and type(cause).__module__.startswith("aiohttp"):
        return getattr(cause, "status", None) in _GONE
    return not isinstance(cause, TimeoutError)


def _filesystem(url: str) -> Any:
    return _connect(_PROTOCOLS[scheme_of(url)])


@cache
def _connect(protocol: str) -> Any:
    import fsspec

    # Listings are never remembered: what lies in a store may change between two looks.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "http":
        from aiohttp import ClientTimeout

        # The library gives a whole download five minutes; ours has a limit of its own, but must not hang on silence.
        limits = ClientTimeout(total=None, sock_connect=_SILENCE_SEC, sock_read=_SILENCE_SEC)
        options["client_kwargs"] = {"timeout": limits}
    return fsspec.filesystem(protocol, **options)

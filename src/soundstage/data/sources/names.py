"""Names that come from tables and tars: what is a video's name, and which names lead out of their folder."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".asf", ".ogv"),
        *(".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".mxf"),
    }
)
REMOTE_SCHEMES = ("s3", "s3a", "gs", "gcs", "http", "https")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
# Parts of a signed address that grant access: they must not stand in a record.
_SECRETS = re.compile(r"^(x-(amz|goog)-.*|awsaccesskeyid|signature|sig|token|expires|googleaccessid)$", re.IGNORECASE)


def has_video_suffix(name: str) -> bool:
    """Whether the name is a video's; a hidden file such as `.mp4` counts, though it is all suffix."""
    return os.path.splitext(f"x{name}")[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def scheme_of(name: str) -> str:
    """The scheme of a URL in lower case, empty for a path."""
    match = _SCHEME.match(name)
    return match[1].lower() if match else ""


def why_unsafe(name: str) -> str:
    """Why a name in a table or a tar is not followed; empty for a URL of a known kind and a path that stays inside."""
    if scheme := scheme_of(name):
        if scheme not in REMOTE_SCHEMES:
            return f"{scheme}:// is none of the kinds of address that are read: {', '.join(REMOTE_SCHEMES)}"
        return "an address must not hold a user or a password" if "@" in urlsplit(name).netloc else ""
    if "\0" in name:
        return "the name holds a zero byte"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        return "an absolute path; name files relative to the table"
    if ".." in re.split(r"[/\\]", name):
        return "the path leads out of its folder by `..`"
    return ""


def shown_url(url: str) -> str:
    """A URL as it may stand in a record: without user and password, and without the parts that sign it."""
    parts = urlsplit(url)
    parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    if not parts.query:
        return urlunsplit(parts)
    kept = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if not _SECRETS.match(key)]
    return urlunsplit(parts._replace(query=urlencode(kept)))

"""Tars give a sample for each key, videos by their place, and name what they lack."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from soundstage.data.sources import LocalFile, SourceItem, TarMember
from soundstage.data.sources.remote import inquire
from soundstage.data.sources.tars import list_tar

from .places import served

CUT = {"t.tar": "damaged", "t.tar#a.mp4": "", "t.tar#b.mp4": "damaged"}


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for name, target in (links or {}).items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            archive.addfile(header)
    return path


def listed(path: Path) -> dict[str, SourceItem]:
    return {item.uri: item for item in list_tar(path.name, LocalFile(path), "unknown")}


def bytes_of(item: SourceItem, path: Path) -> bytes:
    assert isinstance(item.location, TarMember)
    return path.read_bytes()[item.location.offset :][: item.location.size]


def test_a_tar_of_the_webdataset_library(tmp_path: Path) -> None:
    path = tmp_path / "000.tar"
    with webdataset.TarWriter(str(path), encoder=True, mtime=0) as writer:
        writer.write({"__key__": "a/one", "mp4": b"first", "json": {"caption": "a dog", "license": "CC0", "n": 5}})
        writer.write({"__key__": "a/two", "txt": "two  cats", "mp4": b"second!"})
        writer.write({"__key__": "three", "cam.webm": b"x" * 5000, "json": {"label": "cow"}, "txt": "a cow"})
    items = listed(path)
    assert {uri: bytes_of(item, path) for uri, item in items.items()} == {
        "000.tar#a/one.mp4": b"first",
        "000.tar#a/two.mp4": b"second!",
        "000.tar#three.cam.webm": b"x" * 5000,
    }
    told = [(item.annotation.label, item.annotation.caption, item.annotation.licence) for item in items.values()]
    assert told == [("", "a dog", "CC0"), ("", "two cats", "unknown"), ("cow", "a cow", "unknown")]


def test_what_a_sample_lacks_is_named(tmp_path: Path) -> None:
    members = {
        "a.json": b"{",
        "a.mp4": b"a",
        "b.jpg": b"b",
        "b.json": b'{"caption": "b"}',
        "c.mp4": b"c",
        "d.mp4": b"d",
        "d.json": b'["no object"]',
        "../e.mp4": b"e",
        "/f.mp4": b"f",
        "g.mp4": b"g",
        "g.json": json.dumps({"caption": "x" * (1 << 20)}).encode(),
        "h.mp4": b"h",
        "h.json": b'{"caption": "\\ud800"}',
        "README": b"no sample",
        "i/.hidden.mp4": b"i",
    }
    items = listed(write_tar(tmp_path / "t.tar", members, {"l.mp4": "/etc/passwd"}))
    assert {uri.partition("#")[2]: (item.reason, item.annotation.caption) for uri, item in items.items()} == {
        "a.mp4": ("damaged", ""),
        "b": ("no_video", "b"),
        "c.mp4": ("", ""),
        "d.mp4": ("damaged", ""),
        "../e.mp4": ("unsafe_name", ""),
        "/f.mp4": ("unsafe_name", ""),
        "g.mp4": ("damaged", ""),
        "h.mp4": ("damaged", ""),
        "l.mp4": ("not_media", ""),
        "i/.hidden.mp4": ("", ""),
    }
    assert "a.json cannot be used" in items["t.tar#a.mp4"].detail
    assert "its members: b.jpg, b.json" in items["t.tar#b"].detail


@pytest.mark.parametrize(
    ("damage", "reasons", "words"),
    [
        (lambda data: data[:1700], CUT, "cut short after 'b.mp4'"),
        (lambda data: data[:1024] + b"?" * 512 + data[1536:], {"t.tar": "damaged", "t.tar#a.mp4": ""}, "byte 1024"),
        (lambda data: b"no tar" * 100, {"t.tar": "not_media"}, "no tar"),
        (lambda data: data[:2560], {"t.tar#a.mp4": "", "t.tar#b.mp4": ""}, ""),
    ],
    ids=["cut in a member", "no header", "no tar", "no end mark"],
)
def test_a_damaged_tar_is_named_and_keeps_what_it_has(
    tmp_path: Path, damage: Callable[[bytes], bytes], reasons: dict[str, str], words: str
) -> None:
    path = write_tar(tmp_path / "t.tar", {"a.mp4": b"a", "b.mp4": b"b" * 600})
    path.write_bytes(damage(path.read_bytes()))
    items = listed(path)
    assert {uri: item.reason for uri, item in items.items()} == reasons
    assert words in items.get("t.tar", next(iter(items.values()))).detail


def test_a_tar_on_a_server_is_not_fetched_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", {f"{n}.mp4": bytes([n]) * 2_000_000 for n in range(4)} | {"3.txt": b"three"})
    with served(tmp_path) as server:
        file = inquire([f"{server.url}/t.tar"])[f"{server.url}/t.tar"]
        assert file is not None
        items = list_tar("t.tar", file, "unknown")
        server.serves_ranges = False
        refused = list_tar("t.tar", file, "unknown")[0]
    assert [bytes_of(item, path)[0] for item in items] == [0, 1, 2, 3]
    assert items[3].annotation.caption == "three"
    assert (refused.uri, refused.reason) == ("t.tar", "unreachable")

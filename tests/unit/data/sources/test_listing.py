"""Nothing with a video's suffix is overlooked, rows are followed or refused by name, the digest follows content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soundstage.data.sources import WHOLE, LocalFile, Range, RemoteFile, SourceItem, list_items, listing_digest
from soundstage.data.sources.folder import list_folder
from soundstage.errors import DataError
from soundstage.stages import Workspace

from .places import served, slice_for


def items_of(source: Path | str, workspace: Workspace) -> list[SourceItem]:
    return list_items(slice_for(str(source)), workspace).items


def reasons_of(items: list[SourceItem]) -> dict[str, str]:
    return {item.uri: item.reason for item in items if item.reason}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "sub" / "x.mp4").mkdir(parents=True)
    for name in ("b.MP4", "a.mkv", ".mp4", ".hidden.mov", "sub/c.webm", "sub/x.mp4/inner.avi", "notes.txt", "t.csv"):
        (folder / name).write_bytes(name.encode())
    (folder / "link.mp4").symlink_to(folder / "a.mkv")
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "around").symlink_to(folder)
    os.mkfifo(folder / "pipe.mp4")
    return folder


def test_every_entry_that_could_be_a_video_is_listed(folder: Path, workspace: Workspace) -> None:
    items = items_of(folder, workspace)
    assert [item.uri for item in items] == sorted(item.uri for item in items)
    readable = {item.uri: item.location for item in items if not item.reason}
    assert set(readable) == {
        "b.MP4", "a.mkv", ".hidden.mov", "sub/c.webm", "sub/x.mp4/inner.avi", "link.mp4",
    }  # fmt: skip
    assert readable["sub/c.webm"] == LocalFile(folder / "sub" / "c.webm")
    assert reasons_of(items) == {
        "sub/x.mp4": "not_media", "gone.mp4": "not_media", "around": "not_media", "pipe.mp4": "not_media",
        ".mp4": "no_caption",
    }  # fmt: skip
    details = {item.uri: item.detail for item in items}
    for uri, word in {
        "sub/x.mp4": "folder",
        "gone.mp4": "nowhere",
        "around": "link to a folder",
        "pipe.mp4": "pipe",
        ".mp4": "add a `caption` or a `label`",
    }.items():
        assert word in details[uri]


def test_a_workspace_among_the_videos_is_no_source(folder: Path) -> None:
    inside = Workspace.open(folder / "sub")
    for source in (folder, folder / "**" / "*"):
        assert not [item.uri for item in items_of(source, inside) if item.uri.startswith("sub/")]


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (file,) = list_folder(tmp_path)
    assert file.uri == "caf\\xe9.mp4"
    assert file.path.read_bytes() == b"x"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mkv", ["a.mkv"]),
        ("[ab].*", ["a.mkv", "b.MP4"]),
        ("sub/**/*", ["c.webm", "x.mp4", "x.mp4/inner.avi"]),
        ("sub/x.mp4", ["c.webm"]),
    ],
    ids=["suffix", "set", "any depth", "no pattern"],
)
def test_a_pattern_names_videos(folder: Path, workspace: Workspace, pattern: str, expected: list[str]) -> None:
    source = folder / pattern
    if pattern == "sub/x.mp4":
        # Brackets in the name of a folder that is there are no pattern.
        source = (folder / "sub").rename(folder / "[sub]")
        (source / "x.mp4" / "inner.avi").unlink()
        (source / "x.mp4").rmdir()
    assert [item.uri for item in items_of(source, workspace)] == expected


def test_one_file_is_a_source(folder: Path, workspace: Workspace) -> None:
    (item,) = items_of(folder / "a.mkv", workspace)
    assert (item.uri, item.annotation.label) == ("a.mkv", "a")


def test_digest_follows_content_not_time(folder: Path, workspace: Workspace) -> None:
    config = slice_for(str(folder))
    first = listing_digest(config, workspace)
    os.utime(folder / "a.mkv", (1, 1))
    (folder / "notes.txt").write_text("other words")
    assert listing_digest(config, workspace) == first
    seen = {first}
    (folder / "a.mkv").write_bytes(b"A.mkv")
    os.utime(folder / "a.mkv", (1, 1))
    seen.add(listing_digest(config, workspace))
    (folder / "a.mkv").rename(folder / "renamed.mkv")
    seen.add(listing_digest(config, workspace))
    (folder / "sources.csv").write_text("file,label\nb.MP4,bear\n")
    seen.add(listing_digest(config, workspace))
    (folder / "sources.csv").write_text("file,label,end_sec\nb.MP4,bear,3\n")
    seen.add(listing_digest(config, workspace))
    (folder / "sub" / "new.mp4").write_bytes(b"")
    seen.add(listing_digest(config, workspace))
    assert len(seen) == 6


def test_digest_of_the_world_follows_its_configuration(workspace: Workspace) -> None:
    three, again, four = (listing_digest(slice_for("synth:", clips=n), workspace) for n in (3, 3, 4))
    assert three == again != four
    assert not (workspace.root / "world").exists(), "a digest is taken without building the world"


def test_the_world_is_built_once(workspace: Workspace) -> None:
    config = slice_for("synth:", clips=2, classes=2, duration_sec=1.0, size=32, defects_each=0, fps=12)
    listing = list_items(config, workspace)
    assert listing.truth is not None
    folder = listing.truth.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = list_items(config, workspace)
    assert again == listing
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [item.uri for item in again.items] == ["videos/00000.mp4", "videos/00001.mp4"]
    assert all(item.annotation.label for item in again.items)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "does not exist; give a folder of videos, a pattern, a table"),
        ("notes.md", "is neither a video, nor a table"),
        ("empty", "holds no video"),
        ("tars", r"holds no video(.|\n)*give the pattern \*.tar"),
        ("empty/*", "names no video and no .tar among 0 entries"),
        ("absent/*", "there is no folder"),
        ("packed.tar.gz", "compressed tar"),
        ("rows.csv", "has no row"),
        ("ftp://x.org/videos", "ftp:// is none of the kinds"),
        ("https://user:secret@x.org/videos", "source https://x.org/videos: .*password"),
    ],
)
def test_sources_without_videos_are_refused(tmp_path: Path, workspace: Workspace, name: str, words: str) -> None:
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "packed.tar.gz").write_text("")
    (tmp_path / "rows.csv").write_text("file\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=words):
        items_of(name if "://" in name else tmp_path / name, workspace)


def test_a_table_in_the_folder_tells_of_its_videos(folder: Path, workspace: Workspace) -> None:
    (folder / "sources.csv").write_text(
        "\ufefffile,extra,caption,label,licence,provenance,start_sec,end_sec\n"
        'a.mkv,1,"a dog,  barking",dog,CC0-1.0,field trip,,\n'
        "b.MP4,2,,cat,,,0,3\n"
        "b.MP4,2,a cow,,,,3,\n"
    )
    found = [item for item in items_of(folder, workspace) if item.uri in ("a.mkv", "b.MP4", "sub/c.webm")]
    first, second, third, fourth = found
    assert (first.annotation.label, first.annotation.caption) == ("dog", "a dog, barking")
    assert (first.annotation.caption_from, first.range) == ("source", WHOLE)
    assert (first.annotation.licence, first.annotation.provenance) == ("CC0-1.0", "field trip")
    assert (second.annotation.label, second.annotation.caption_from) == ("cat", "label_template")
    assert (second.annotation.licence, second.range) == ("unknown", Range(0, 3_000_000))
    assert (third.annotation.label, third.annotation.caption) == ("b", "a cow")
    assert third.range == Range(3_000_000, -1)
    assert (fourth.annotation.label, fourth.annotation.provenance) == ("c", "unknown")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na.mkv,dog\n", "no column `file`"),
        ("file,label\na.mkv,dog\na.mk,dog\n", "line 3: no source is called 'a.mk'; did you mean 'a.mkv'"),
        ("file,label\na.mkv,dog\nb.MP4,cat\na.mkv ,cat\n", "line 4: 'a.mkv' stands on line 2 already"),
    ],
    ids=["no column", "unknown file", "twice"],
)
def test_a_bad_table_in_the_folder_is_refused(folder: Path, workspace: Workspace, text: str, words: str) -> None:
    (folder / "sources.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        items_of(folder, workspace)


def test_rows_of_a_table_are_followed_or_refused_by_name(folder: Path, workspace: Workspace) -> None:
    table = folder / "rows.csv"
    table.write_text(
        "file,label,start_sec,end_sec\n"
        "a.mkv,dog,,\nsub/c.webm,cat,1,2\nsub/c.webm,cow,2,3\n b.MP4 ,bear,,\n"
        "a.mkv,,5,6\nabsent.mp4,dog,,\ngone.mp4,dog,,\n/etc/passwd,dog,,\nsub/../../x.mp4,dog,,\n"
        f"{'long' * 80}.mp4,dog,,\nfile:///etc/passwd,dog,,\n"
    )
    items = items_of(table, workspace)
    assert len(items) == 11, "each row is an item"
    assert [(item.uri, item.range, item.annotation.label) for item in items if not item.reason] == [
        (" b.MP4 ", WHOLE, "bear"),
        ("a.mkv", WHOLE, "dog"),
        ("sub/c.webm", Range(1_000_000, 2_000_000), "cat"),
        ("sub/c.webm", Range(2_000_000, 3_000_000), "cow"),
    ]
    assert reasons_of(items) == {
        "a.mkv": "no_caption",
        "absent.mp4": "missing",
        "gone.mp4": "not_media",
        "/etc/passwd": "unsafe_name",
        "sub/../../x.mp4": "unsafe_name",
        f"{'long' * 80}.mp4": "missing",
        "file:///etc/passwd": "unsafe_name",
    }


def test_a_vggsound_table_takes_files_beside_it(tmp_path: Path, workspace: Workspace) -> None:
    folder = tmp_path / "vggsound"
    for name in ("--0PQM4-hqg_000030.mp4", "video/---g-f_I2yQ.mkv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "vggsound.csv").write_text(
        "--0PQM4-hqg,30,waterfall burbling,train\n---g-f_I2yQ,1,people marching,test\n-0jeONf82dE,21,horse,train\n"
    )
    items = {item.uri: item for item in items_of(folder / "vggsound.csv", workspace)}
    assert set(items) == {"--0PQM4-hqg_000030.mp4", "video/---g-f_I2yQ.mkv", "-0jeONf82dE_000021.mp4"}
    assert items["video/---g-f_I2yQ.mkv"].range == Range(1_000_000, 11_000_000)
    assert items["--0PQM4-hqg_000030.mp4"].annotation.caption_from == "label_template"
    assert reasons_of(list(items.values())) == {"-0jeONf82dE_000021.mp4": "missing"}


def test_a_web_server_that_lists_is_a_folder(folder: Path, workspace: Workspace) -> None:
    (folder / "pipe.mp4").unlink()
    (folder / "around").unlink()
    (folder / "d e#1.mp4").write_bytes(b"d")
    (folder / "sources.csv").write_text("file,caption\nsub/c.webm,a cow\nd e#1.mp4,a dog\n")
    with served(folder) as server:
        items = {item.uri: item for item in items_of(server.url, workspace)}
        digest = listing_digest(slice_for(server.url), workspace)
        (folder / "a.mkv").write_bytes(b"longer than before")
        assert listing_digest(slice_for(server.url), workspace) != digest
    assert {"a.mkv", "b.MP4", "sub/c.webm"} <= set(items)
    assert items["sub/c.webm"].annotation.caption == "a cow"
    assert items["d e#1.mp4"].annotation.caption == "a dog"
    location = items["a.mkv"].location
    assert isinstance(location, RemoteFile)
    assert (location.url, location.size) == (f"{server.url}/a.mkv", 5)
    assert location.token, "the time of change tells versions apart"
    assert not location.settled, "but not within a second"


def test_rows_of_a_table_on_a_server(folder: Path, workspace: Workspace) -> None:
    with served(folder) as server:
        (folder / "rows.csv").write_text(
            f"file,label\na.mkv,dog\n{server.url}/b.MP4?v=1,cat\nabsent.mp4,dog\n../up.mp4,dog\n"
        )
        items = {item.uri: item for item in items_of(f"{server.url}/rows.csv", workspace)}
    assert set(items) == {"a.mkv", f"{server.url}/b.MP4?v=1", "absent.mp4", "../up.mp4"}
    assert reasons_of(list(items.values())) == {"absent.mp4": "missing", "../up.mp4": "unsafe_name"}


def test_a_server_that_is_not_there_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"cannot be read: .*; check address, credentials and network"):
        items_of("http://127.0.0.1:9/rows.csv", workspace)

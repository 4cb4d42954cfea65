"""Fingerprints lie beside their clips whole or not at all, and ingestion makes those that are missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.compare import Relation, compare, relation
from soundstage.data.duplicates.fingerprint import FINGERPRINT_VERSION, Fingerprints, fingerprint
from soundstage.data.duplicates.links import find_links
from soundstage.data.duplicates.store import (
    fingerprint_path,
    load_fingerprint,
    save_fingerprint,
    write_fingerprints,
)
from soundstage.data.records import FINGERPRINTS
from soundstage.errors import DataError
from soundstage.media.encode import write_video

from ..ingesting import Ingested
from .makers import FPS, RATE, random_print, world_clip


def test_a_fingerprint_comes_back(tmp_path: Path) -> None:
    made = random_print(np.random.default_rng(0))
    save_fingerprint(tmp_path / "clip.mp4", made)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.fingerprint.json"]
    assert load_fingerprint(tmp_path / "clip.mp4") == {"version": FINGERPRINT_VERSION, **made.to_bytes()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: "",
        lambda stored: json.dumps(stored)[:-10],
        lambda stored: json.dumps([stored]),
        lambda stored: json.dumps(stored | {"version": "0"}),
        lambda stored: json.dumps(stored | {"sound": "AAA"}),
        lambda stored: json.dumps(stored | {"sound": "AAAA"}),
        lambda stored: json.dumps({name: part for name, part in stored.items() if name != "motion"}),
    ],
    ids=["empty", "cut off", "a list", "older", "no base64", "no whole word", "a column less"],
)
def test_what_is_no_fingerprint_counts_as_none(tmp_path: Path, damage: object) -> None:
    media = tmp_path / "clip.mp4"
    assert load_fingerprint(media) is None
    save_fingerprint(media, random_print(np.random.default_rng(0)))
    path = fingerprint_path(media)
    path.write_text(damage(json.loads(path.read_text())))  # type: ignore[operator]
    assert load_fingerprint(media) is None
    with pytest.raises(DataError, match=r"clip c has no fingerprint beside .*clip.mp4; run `soundstage ingest` again"):
        write_fingerprints(tmp_path / "table.parquet", [("c", media)])
    assert not (tmp_path / "table.parquet").exists()


def test_tables_have_a_row_a_clip_whatever_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundstage.data.duplicates.store._ROWS", 3)
    rng = np.random.default_rng(0)
    prints = [random_print(rng) for _ in range(7)]
    for number, made in enumerate(prints):
        save_fingerprint(tmp_path / f"{number}.mp4", made)
    for count in (0, 1, 3, 7):
        clips = [(f"clip{number}", tmp_path / f"{number}.mp4") for number in range(count)]
        assert write_fingerprints(tmp_path / "table.parquet", clips) == count
        table = pq.read_table(tmp_path / "table.parquet")
        assert table.schema.names == FINGERPRINTS.names
        assert table.column("clip_id").to_pylist() == [f"clip{number}" for number in range(count)]
        read = Fingerprints.of_table(table)
        assert [read[index].to_bytes() for index in range(count)] == [made.to_bytes() for made in prints[:count]]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for index in (0, 8):
        clip = world_clip(3, index)
        write_video(folder / f"clip{index}.mp4", clip.frames, FPS, clip.waveform, RATE)
    copied = world_clip(3, 8)
    write_video(folder / "copy.mp4", copied.frames[10:], FPS, copied.waveform[10 * RATE // FPS :], RATE, crf=34)
    return folder


def test_ingestion_writes_them_and_makes_missing_ones_again(sources: Path, tmp_path: Path) -> None:
    first = Ingested(sources, tmp_path)
    assert (first.counts["clips"], first.encoded) == (3, 3)
    table = pq.read_table(first.out / "fingerprints.parquet")
    assert table.column("clip_id").to_pylist() == [row["clip_id"] for row in first.clips]
    media = [first.workspace.resolve(row["media_uri"]) for row in first.clips]
    fingerprint_path(media[0]).unlink()
    fingerprint_path(media[1]).write_text("{}")
    again = Ingested(sources, tmp_path)
    assert again.encoded == 2
    assert again.files() == first.files()
    assert Ingested(sources, tmp_path).encoded == 0


def test_they_are_of_the_pictures_and_sound_that_the_clip_holds(sources: Path, tmp_path: Path) -> None:
    made = Ingested(sources, tmp_path)
    prints = Fingerprints.of_table(pq.read_table(made.out / "fingerprints.parquet"))
    for index, row in enumerate(made.clips):
        seen = made.decoded(row)
        decoded = fingerprint(seen.frames, float(seen.fps), seen.waveform, seen.sample_rate)
        # One generation of coding lies between them.
        found = compare(prints[index], decoded, 0.0, SplitConfig())
        assert found is not None
        assert relation(found, SplitConfig()) is Relation.SAME
        assert found.offset_sec == 0.0
        assert found.video_bit_error is not None
        assert found.video_bit_error < 0.05
        assert len(prints[index].motion) == len(decoded.motion) == row["num_frames"]
    uris = [row["source_uri"] for row in made.clips]
    (link,) = find_links(prints, np.arange(3), SplitConfig())
    assert {uris[link.first], uris[link.second]} == {"clip8.mp4", "copy.mp4"}
    assert abs(link.found.offset_sec) == pytest.approx(10 / FPS, abs=0.021)

"""Ingestion from tables, tars and a web server: each row is accounted for, what was fetched is not fetched again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from soundstage.data.sources import listing_digest

from ..media.makers import pulse_times, pulses, solid, write_plain, write_source
from .ingesting import Ingested, ingest_slice
from .sources.places import served
from .sources.test_tars import write_tar


def test_rows_of_a_table_are_clips_or_rejects(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    write_plain(folder / "a.mp4", 5.0, 0.5, 3.0, seed=1)
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    write_source(folder / "still.mp4", [solid(90)] * 24, [i / 12 for i in range(24)], [(0.0, pulses(2.0, 0.5))])
    (folder / "rows.csv").write_text(
        "file,label,caption,start_sec,end_sec\n"
        "a.mp4,dog,,0,2\n"
        "a.mp4,,a cow moos,1.5,4.5\n"
        "a.mp4,cat,,4.5,9\n"
        "a.mp4,,,2,4\n"
        "b.mp4,bear,,0,2\n"
        "b.mp4,bear,,2,3.5\n"
        "b.mp4,bear,,0,0.5\n"
        "still.mp4,wall,,,\n"
        "absent.mp4,wall,,,\n"
        "../still.mp4,wall,,,\n"
    )
    found = Ingested(folder / "rows.csv", tmp_path)
    clips = {(row["source_uri"], row["start_us"], row["duration_us"]): row for row in found.clips}
    assert {key: (row["label"], row["caption"]) for key, row in clips.items()} == {
        ("a.mp4", 0, 2_000_000): ("dog", "a video of dog with its sound"),
        ("a.mp4", 1_500_000, 3_000_000): ("", "a cow moos"),
        ("b.mp4", 2_000_000, 1_500_000): ("bear", "a video of bear with its sound"),
        ("still.mp4", 0, 2_000_000): ("wall", "a video of wall with its sound"),
    }
    rejects = {(row["source_uri"], row["start_us"], row["duration_us"]): row["reason"] for row in found.rejects}
    assert rejects == {
        ("a.mp4", 4_500_000, 4_500_000): "bad_span",
        ("a.mp4", 2_000_000, 2_000_000): "no_caption",
        ("b.mp4", 0, 2_000_000): "exact_duplicate",
        ("b.mp4", 0, 500_000): "too_short",
        ("absent.mp4", 0, 0): "missing",
        ("../still.mp4", 0, 0): "unsafe_name",
    }
    assert {name: found.counts[name] for name in ("sources", "sources_kept", "rows", "rows_kept", "rows_rejected")} == {
        "sources": 5, "sources_kept": 3, "rows": 10, "rows_kept": 4, "rows_rejected": 6,
    }  # fmt: skip
    # The overlapping rows needed a pass each; both begin where they should.
    heard = [pulse_times(found.decoded(row).waveform, 16000) for row in clips.values()]
    assert heard[0] == pytest.approx([0.5], abs=0.01)
    assert next(
        times for (_, start, _), times in zip(clips, heard, strict=True) if start == 1_500_000
    ) == pytest.approx([1.5], abs=0.01)
    again = Ingested(folder / "rows.csv", tmp_path)
    assert again.encoded == 0
    assert again.files() == found.files()


def test_long_sources_are_split_at_cuts_and_their_time_is_accounted_for(tmp_path: Path) -> None:
    pictures = [solid(level) for level, count in ((60, 24), (200, 30), (20, 6), (120, 36)) for _ in range(count)]
    # A moving edge, so that the shots are no uniform pictures.
    for index, picture in enumerate(pictures):
        picture[:, : 8 + index % 24] //= 2
        picture[:: 4 + index // 24] //= 3
    write_source(tmp_path / "v" / "dog.mp4", pictures, [i / 12 for i in range(96)], [(0.0, pulses(8.0, 1.0))])
    found = Ingested(tmp_path / "v", tmp_path, span_sec=3.0)
    pieces = sorted((row["start_us"], row["duration_us"]) for row in (*found.clips, *found.rejects))
    assert sum(duration for _, duration in pieces) == pytest.approx(8_000_000, abs=1000)
    assert [start for start, _ in pieces][1:] == [start + duration for start, duration in pieces][:-1]
    assert found.counts["sources"] == found.counts["sources_kept"] == 1
    assert {row["reason"] for row in found.rejects} <= {"too_short"}


def test_a_tar_is_a_source(tmp_path: Path) -> None:
    one = write_plain(tmp_path / "one.mp4", 2.0, 0.7, seed=1).read_bytes()
    two = write_plain(tmp_path / "two.mp4", 0.5, seed=2).read_bytes()
    members = {"a.mp4": one, "a.txt": b"a dog", "b.mp4": two, "b.txt": b"a cat", "c.mp4": one, "d.mp4": one}
    write_tar(tmp_path / "shards" / "0.tar", members | {"c.json": b'{"label": "cow"}'})
    found = Ingested(tmp_path / "shards" / "*.tar", tmp_path)
    (clip,) = found.clips
    assert (clip["source_uri"], clip["caption"], clip["caption_from"]) == ("0.tar#a.mp4", "a dog", "source")
    assert pulse_times(found.decoded(clip).waveform, 16000) == pytest.approx([0.7], abs=0.01)
    assert found.reasons() == {
        "0.tar#b.mp4": "too_short", "0.tar#c.mp4": "exact_duplicate", "0.tar#d.mp4": "no_caption",
    }  # fmt: skip
    assert not list((tmp_path / "sources").glob("*")), "nothing that was fetched stays"


def test_what_a_server_gave_is_not_fetched_again(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    for seed, name in enumerate(("dog.mp4", "cat.mp4", "short.mp4")):
        write_plain(folder / name, 0.5 if name == "short.mp4" else 1.5, seed=seed)
    shutil.copy(folder / "dog.mp4", folder / "a dog again.mp4")
    for path in folder.iterdir():
        # A server that tells versions by whole seconds is believed once they have passed.
        os.utime(path, (1_600_000_000, 1_600_000_000))
    with served(folder) as server:
        (folder / "rows.jsonl").write_text(
            "\n".join(
                f'{{"url": "{name}", "label": "x"}}' for name in (*(p.name for p in folder.glob("*.mp4")), "no.mp4")
            )
        )
        source = f"{server.url}/rows.jsonl"
        found = Ingested(source, tmp_path)
        assert {row["source_uri"] for row in found.clips} == {"a dog again.mp4", "cat.mp4"}
        assert found.reasons() == {"dog.mp4": "exact_duplicate", "short.mp4": "too_short", "no.mp4": "missing"}
        server.served.clear()
        digest = listing_digest(ingest_slice(source), found.workspace)
        write_plain(folder / "cow.mp4", 1.5, seed=7)
        with (folder / "rows.jsonl").open("a") as rows:
            rows.write('\n{"url": "cow.mp4", "label": "cow"}')
        assert listing_digest(ingest_slice(source), found.workspace) != digest
        again = Ingested(source, tmp_path)
        assert again.encoded == 1
        assert {row["source_uri"] for row in again.clips} - {"cow.mp4"} == {row["source_uri"] for row in found.clips}
        # The inquiry after a file that is not there ends in a download that fails.
        assert {path for path in server.served if path.endswith(".mp4")} - {"/no.mp4"} == {"/cow.mp4"}


def test_a_server_that_fails_costs_its_files_and_they_are_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    write_plain(folder / "dog.mp4", 1.5, seed=1)
    write_plain(folder / "cat.mp4", 1.5, seed=2)
    (folder / "rows.csv").write_text("file,label\ndog.mp4,dog\ncat.mp4,cat\n")
    with served(folder) as server:
        server.failures["/cat.mp4"] = 2
        found = Ingested(f"{server.url}/rows.csv", tmp_path, fetch_attempts=2)
        again = Ingested(f"{server.url}/rows.csv", tmp_path, fetch_attempts=2)
    assert found.reasons() == {"cat.mp4": "unreachable"}
    assert "503" in found.rejects[0]["detail"]
    assert (again.reasons(), again.encoded) == ({}, 1)

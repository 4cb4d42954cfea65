"""Ingestion on a folder of good, odd and hostile files: all are accounted for, and no work is done twice."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from soundstage.data.normalised import SourceResult, SourceTask, store_source
from soundstage.data.records import TRUTH, read_table
from soundstage.errors import DataError
from soundstage.media.decode import decode_clip
from soundstage.stages.files import sha256_file

from ..media.makers import pulse_times, pulses, solid, write_plain, write_source
from .ingesting import Ingested

SHARED_CLIPS = Path(__file__).parents[4] / "shared" / "data" / "clips"


def make_folder(folder: Path) -> None:
    good = write_plain(folder / "dog_bark.mp4", 2.0, 0.7, seed=1)
    shutil.copy(good, folder / "zz_copy.mp4")
    write_plain(folder / "long.mp4", 5.0, 0.5, 3.0, seed=2)
    write_plain(folder / "deep" / "er" / ".hidden.mkv", 2.0, seed=3)
    times = [i / 12 for i in range(24)]
    write_source(folder / "late.mp4", [solid(90)] * 24, times, [(0.7, pulses(1.0, 0.5))])
    write_source(folder / "silent_film.mp4", [solid(90)] * 24, times)
    write_plain(folder / "short.mp4", 0.5, seed=4)
    whole = write_plain(folder / "broken.mp4", 2.0, seed=5).read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "empty_too.mp4").write_bytes(b"")
    (folder / "words.mp4").write_text("not a video\n" * 20)
    (folder / "folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "table.csv").write_text("a,b\n")
    (folder / "sources.csv").write_text("file,label,caption\nlong.mp4,hammer,a hammer falls\n")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    root = tmp_path_factory.mktemp("ingest")
    make_folder(root / "videos")
    return Ingested(root / "videos", root, span_sec=3.0)


def test_every_source_is_a_clip_or_a_reject(ingested: Ingested) -> None:
    assert {row["source_uri"] for row in ingested.clips} == {
        "dog_bark.mp4", "long.mp4", "deep/er/.hidden.mkv", "late.mp4",
    }  # fmt: skip
    assert ingested.reasons() == {
        "zz_copy.mp4": "exact_duplicate",
        "silent_film.mp4": "no_audio",
        "short.mp4": "too_short",
        "broken.mp4": "damaged",
        "empty.mp4": "not_media",
        "empty_too.mp4": "not_media",
        "words.mp4": "not_media",
        "folder.mp4": "not_media",
        "dangling.mp4": "not_media",
    }
    assert ingested.counts == {
        "sources": 13,
        "sources_kept": 4,
        "sources_rejected": 9,
        "rows": 13,
        "rows_kept": 4,
        "rows_rejected": 9,
        "clips": 5,
        "rejects": 9,
        "reject_damaged": 1,
        "reject_exact_duplicate": 1,
        "reject_no_audio": 1,
        "reject_not_media": 5,
        "reject_too_short": 1,
    }
    assert ingested.outcome.metrics["clip_seconds"] == pytest.approx(11.0, abs=0.05)


def test_a_duplicate_names_the_clip_that_was_kept(ingested: Ingested) -> None:
    (duplicate,) = (row for row in ingested.rejects if row["reason"] == "exact_duplicate")
    assert ingested.clip("dog_bark.mp4")["clip_id"] in duplicate["detail"]


def test_rows_describe_source_and_normalised_clip(ingested: Ingested) -> None:
    row = ingested.clip("dog_bark.mp4")
    assert (row["label"], row["caption_from"], row["licence"]) == ("dog bark", "label_template", "unknown")
    assert (row["fps_num"], row["fps_den"], row["num_frames"]) == (24, 1, 48)
    assert (row["width"], row["height"], row["sample_rate"], row["channels"]) == (48, 48, 16000, 1)
    assert (row["video_codec"], row["audio_codec"], row["group"], row["split"]) == ("h264", "aac", "", "")
    path = ingested.workspace.resolve(row["media_uri"])
    assert path.name == f"{row['clip_id']}.mp4"
    assert sha256_file(path) == row["media_sha256"]
    clip = decode_clip(path)
    assert clip.frames.shape == (48, 48, 48, 3)
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([0.7], abs=0.01)


def test_late_sound_stays_late(ingested: Ingested) -> None:
    clip = decode_clip(ingested.workspace.resolve(ingested.clip("late.mp4")["media_uri"]))
    assert pulse_times(clip.waveform, clip.sample_rate) == pytest.approx([1.2], abs=0.01)


def test_a_long_source_is_split_into_equal_spans(ingested: Ingested) -> None:
    rows = sorted((row for row in ingested.clips if row["source_uri"] == "long.mp4"), key=lambda row: row["start_us"])
    assert [row["start_us"] for row in rows] == pytest.approx([0, 2_500_000], abs=20_000)
    assert all(
        (row["label"], row["caption"], row["caption_from"]) == ("hammer", "a hammer falls", "source") for row in rows
    )
    heard = [pulse_times(decode_clip(ingested.workspace.resolve(row["media_uri"])).waveform, 16000) for row in rows]
    assert [times[0] for times in heard] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_second_run_encodes_nothing_and_writes_the_same(ingested: Ingested) -> None:
    root = ingested.workspace.root.parent
    again = Ingested(root / "videos", root, span_sec=3.0, workers=1)
    assert (ingested.encoded, again.encoded) == (5, 0)
    for name in ("clips.parquet", "rejects.parquet"):
        assert (again.out / name).read_bytes() == (ingested.out / name).read_bytes()
    assert again.counts == ingested.counts


def test_only_what_is_new_or_damaged_in_the_store_is_encoded(tmp_path: Path) -> None:
    for seed in range(3):
        write_plain(tmp_path / "videos" / f"v{seed}.mp4", 1.5, seed=seed)
    first = Ingested(tmp_path / "videos", tmp_path)
    write_plain(tmp_path / "videos" / "v9.mp4", 1.5, seed=9)
    kept = first.workspace.resolve(first.clips[0]["media_uri"])
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    second = Ingested(tmp_path / "videos", tmp_path)
    assert (first.encoded, second.encoded) == (3, 2)
    assert [row for row in second.clips if row["source_uri"] != "v9.mp4"] == first.clips


def hostile(task: SourceTask) -> SourceResult:
    """Dies or stalls on files called so; does the real work on others."""
    if task.uri == "kill.mp4":
        # Half a file, as a process killed while it writes leaves it.
        (task.settings.store / "00").mkdir(parents=True, exist_ok=True)
        (task.settings.store / "00" / f".half.mp4.{os.getpid()}.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    if task.uri == "stall.mp4":
        time.sleep(600)
    return store_source(task)


def test_a_process_that_dies_or_stalls_costs_one_file(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "kill", "b", "stall", "c")):
        write_plain(tmp_path / "videos" / f"{name}.mp4", 1.5, seed=seed)
    found = Ingested(tmp_path / "videos", tmp_path, worker=hostile, file_timeout_sec=3.0)
    assert {row["source_uri"] for row in found.clips} == {"a.mp4", "b.mp4", "c.mp4"}
    assert found.reasons() == {"kill.mp4": "crashed", "stall.mp4": "timeout"}
    assert not list(found.workspace.media.rglob("*.tmp"))


def test_memory_is_a_limit_on_the_file(tmp_path: Path) -> None:
    write_plain(tmp_path / "videos" / "a.mp4", 1.5)
    write_source(
        tmp_path / "videos" / "wide.mp4", [solid(90, 2048, 1024)] * 24, [i / 8 for i in range(24)], [(0.0, pulses(3.0))]
    )
    found = Ingested(tmp_path / "videos", tmp_path, short_side=1024, worker_memory_gib=0.2)
    assert found.reasons() == {"wide.mp4": "too_large"}


def test_when_nothing_is_left_the_reasons_are_counted(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    write_plain(tmp_path / "videos" / "b.mp4", 0.5)
    with pytest.raises(DataError, match=r"all 2 sources .*not_media 1, too_short 1(.|\n)*a.mp4: not_media"):
        Ingested(tmp_path / "videos", tmp_path)


def test_spans_must_reach_the_shortest_length(tmp_path: Path) -> None:
    write_plain(tmp_path / "videos" / "a.mp4", 2.0)
    write_plain(tmp_path / "videos" / "b.mp4", 1.2)
    found = Ingested(tmp_path / "videos", tmp_path, span_sec=1.5, min_duration_sec=1.1)
    assert found.reasons() == {"a.mp4": "too_short"}
    assert "span_sec" in found.rejects[0]["detail"]


def test_the_procedural_world_keeps_its_truth(tmp_path: Path) -> None:
    found = Ingested("synth:", tmp_path, min_duration_sec=1.5)
    truth = {row["source_uri"]: row["defect"] for row in read_table(found.out / "truth.parquet", TRUTH)}
    assert set(truth) == {row["source_uri"] for row in (*found.clips, *found.rejects)}
    rejected = found.reasons()
    assert sorted(rejected.values()) == ["damaged", "exact_duplicate", "too_short"]
    assert {truth[uri] for uri, reason in rejected.items() if reason != "exact_duplicate"} == {"broken", "too_short"}


def test_real_clips(tmp_path: Path) -> None:
    if not SHARED_CLIPS.is_dir():
        pytest.skip(f"no real clips at {SHARED_CLIPS}")
    smallest = sorted(SHARED_CLIPS.glob("*.*4"), key=lambda path: (path.stat().st_size, path.name))[:4]
    (tmp_path / "videos").mkdir()
    for path in smallest:
        (tmp_path / "videos" / path.name).symlink_to(path)
    found = Ingested(tmp_path / "videos", tmp_path)
    assert found.counts["sources"] == 4
    assert found.counts["sources_kept"] == 4
    for row in found.clips:
        assert len(decode_clip(found.workspace.resolve(row["media_uri"])).frames) == row["num_frames"]

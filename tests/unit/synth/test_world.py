"""The world on disk, measured from its decoded files: truth is true, and every defect is really there."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.config.tree import IngestConfig, SynthConfig
from soundstage.data.records import TRUTH, read_table
from soundstage.errors import DataError
from soundstage.media.decode import DecodedClip, decode_clip
from soundstage.stages.files import sha256_file
from soundstage.synth.plan import DEFECTS, NEAR_COPIES, plan_world
from soundstage.synth.scene import CATALOGUE
from soundstage.synth.world import build_world, unseen_example

# One near-duplicate of every variant.
CONFIG = SynthConfig(clips=8, classes=8, duration_sec=3.0, size=48, defects_each=1, planted={"near_duplicate": 4})
VOICE_SEC, PULSE_SEC = 0.35, 0.21
# The window in which a sound must begin around its event.
ONSET_TOLERANCE_SEC = 0.015
# Shares of pixels: every event changes more than a tenth of the picture, and rest is rest.
MOVES, RESTS = 0.05, 0.002


@dataclass(frozen=True)
class File:
    """One file and what the truth says of it."""

    path: Path
    label: str
    defect: str
    late_sec: float
    events: list[float]
    original: Path | None
    identifiable: bool

    def decode(self) -> DecodedClip:
        return decode_clip(self.path)


def read_world(folder: Path) -> list[File]:
    rows = read_table(folder / "truth.parquet", TRUTH)
    return [
        File(
            folder / row["source_uri"],
            row["label"],
            row["defect"],
            row["audio_shift_sec"],
            json.loads(row["event_times_sec"]),
            folder / row["original"] if row["original"] else None,
            row["offset_identifiable"],
        )
        for row in rows
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def world(folder: Path) -> list[File]:
    return read_world(folder)


def only(world: list[File], defect: str) -> File:
    (found,) = [file for file in world if file.defect == defect]
    return found


def clean(world: list[File]) -> list[File]:
    return [file for file in world if file.defect == "none"]


def onset(clip: DecodedClip, expected: float) -> float | None:
    """When the sound near `expected` seconds rises past a quarter of its peak; None when nothing is loud there."""
    rate = clip.sample_rate
    first = max(0, round((expected - 0.1) * rate))
    near = np.abs(clip.waveform[first : round((expected + 0.1) * rate)])
    if near.max(initial=0.0) < 0.1:
        return None
    return float(first + np.flatnonzero(near > near.max() / 4)[0]) / rate


def heard(file: File, clip: DecodedClip, late_sec: float = 0.0) -> list[bool]:
    """For each event well inside the clip, whether a sound begins at its time plus `late_sec`."""
    times = [event + late_sec for event in file.events]
    found = [onset(clip, time) for time in times if 0.12 < time < len(clip.waveform) / clip.sample_rate - 0.12]
    wanted = [time for time in times if 0.12 < time < len(clip.waveform) / clip.sample_rate - 0.12]
    return [f is not None and abs(f - w) <= ONSET_TOLERANCE_SEC for f, w in zip(found, wanted, strict=True)]


def motion(clip: DecodedClip) -> NDArray[np.float64]:
    """Share of pixels that change visibly, (T - 1,); 20 of 256 levels is more than the codec's own flicker."""
    change = np.abs(np.diff(clip.frames.astype(float), axis=0)).max(axis=-1)
    return np.asarray((change > 20).mean(axis=(1, 2)))


def moves_at(file: File, clip: DecodedClip) -> list[bool]:
    """For each event, whether the picture changes within a frame of it."""
    energy, fps = motion(clip), float(clip.fps)
    inside = [event for event in file.events if event < len(clip.frames) / fps - 0.1]
    return [bool(energy[int(event * fps) : int(event * fps) + 2].max() > MOVES) for event in inside]


def away_from(times: list[float], at: NDArray[np.float64], before: float, after: float) -> NDArray[np.bool_]:
    near = [(at > time - before) & (at < time + after) for time in times]
    return ~np.any(near, axis=0) if near else np.ones(len(at), bool)


def test_the_truth_covers_every_file(folder: Path, world: list[File]) -> None:
    videos = sorted(path.relative_to(folder).as_posix() for path in (folder / "videos").iterdir())
    assert [file.path.relative_to(folder).as_posix() for file in world] == videos
    with (folder / "sources.csv").open() as stream:
        sources = list(csv.DictReader(stream))
    assert sorted(row["file"] for row in sources) == videos
    assert {row["file"]: row["label"] for row in sources} == {
        file.path.relative_to(folder).as_posix(): file.label for file in world
    }
    assert all(row["licence"] == "CC0-1.0" and row["caption"] and row["provenance"] for row in sources)
    assert Counter(file.defect for file in world) == {"none": 8} | dict.fromkeys(DEFECTS, 1) | {"near_duplicate": 4}
    assert {file.label for file in clean(world)} == {kind.label for kind in CATALOGUE}


def test_one_seed_one_world(folder: Path, tmp_path: Path) -> None:
    def hashes(root: Path) -> dict[str, str]:
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root).as_posix(): sha256_file(path) for path in files}

    build_world(CONFIG, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(folder)
    build_world(CONFIG.model_copy(update={"seed": 8, "clips": 1, "defects_each": 0, "planted": {}}), tmp_path / "other")
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(folder).values())


def test_clean_files_sound_at_their_events_and_nowhere_else(world: list[File]) -> None:
    for file in clean(world):
        clip = file.decode()
        found = heard(file, clip)
        assert found, file
        assert all(found), file
        # Away from events only background noise remains. An event before the file begins may still ring.
        at = np.arange(len(clip.waveform)) / clip.sample_rate
        quiet = away_from(file.events, at, 0.03, VOICE_SEC + 0.03) & (at > VOICE_SEC) & (at < CONFIG.duration_sec)
        assert np.abs(clip.waveform[quiet]).max(initial=0.0) < 0.04, file


def test_clean_files_move_at_their_events_and_nowhere_else(world: list[File]) -> None:
    for file in clean(world):
        clip = file.decode()
        assert (clip.fps, clip.frames.shape) == (24, (72, 48, 48, 3))
        found = moves_at(file, clip)
        assert found, file
        assert all(found), file
        pairs = (np.arange(71) + 0.5) / 24
        still = away_from(file.events, pairs, 1 / 24, PULSE_SEC + 1 / 24) & (pairs > PULSE_SEC + 1 / 24)
        assert motion(clip)[still].max(initial=0.0) < RESTS, file


def test_silent_is_silent(world: list[File]) -> None:
    file = only(world, "silent")
    clip = file.decode()
    assert np.abs(clip.waveform).max() < 1e-4
    assert all(moves_at(file, clip))


def test_still_does_not_move_but_sounds(world: list[File]) -> None:
    clip = only(world, "still").decode()
    assert motion(clip).max() < RESTS
    assert np.abs(clip.waveform).max() > 0.1
    assert only(world, "still").events == []


def test_cut_changes_all_the_picture_once(world: list[File]) -> None:
    file = only(world, "cut")
    clip = file.decode()
    (at,) = np.flatnonzero(motion(clip) > 0.7)
    assert 0.25 * 72 < at < 0.75 * 72
    cut_sec = (at + 1) / 24
    assert all(moves_at(file, clip))
    # The truth changes scenes with the picture: nothing moves where neither scene has an event.
    pairs = (np.arange(71) + 0.5) / 24
    rest = away_from([*file.events, cut_sec], pairs, 1 / 24, PULSE_SEC + 1 / 24) & (pairs > PULSE_SEC + 1 / 24)
    assert motion(clip)[rest].max(initial=0.0) < RESTS


def test_shifted_sound_is_late_by_what_the_truth_says(world: list[File]) -> None:
    file = only(world, "shifted")
    clip = file.decode()
    assert 0.2 <= abs(file.late_sec) <= 1.0
    assert len(heard(file, clip, file.late_sec)) >= 2
    assert all(heard(file, clip, file.late_sec))
    assert not all(heard(file, clip))
    assert all(moves_at(file, clip))


def test_swapped_sound_is_of_another_scene(world: list[File]) -> None:
    file = only(world, "swapped")
    clip = file.decode()
    assert np.abs(clip.waveform).max() > 0.1
    assert np.mean(heard(file, clip)) < 0.5
    assert all(moves_at(file, clip))


def test_a_duplicate_is_a_byte_copy_of_a_clean_file(world: list[File]) -> None:
    file = only(world, "duplicate")
    (original,) = [other for other in clean(world) if sha256_file(other.path) == sha256_file(file.path)]
    assert (original.label, original.events) == (file.label, file.events)
    assert file.original == original.path
    assert file.identifiable == original.identifiable


def test_near_duplicates_show_and_sound_as_their_originals(folder: Path, world: list[File]) -> None:
    variants = {folder / item.uri: item.variant for item in plan_world(CONFIG)}
    seen = set()
    for file in (file for file in world if file.defect == "near_duplicate"):
        seen.add(variants[file.path])
        (source,) = [other for other in clean(world) if other.path == file.original]
        assert sha256_file(source.path) != sha256_file(file.path)
        assert file.label == source.label
        copy, original = file.decode(), source.decode()
        first = 0 if variants[file.path] != "start_cut" else len(original.frames) - len(copy.frames)
        kept = len(copy.frames) / len(original.frames)
        size = copy.frames.shape[1] / original.frames.shape[1]
        assert (0.78 <= kept <= 0.91) if variants[file.path].endswith("_cut") else kept == 1
        assert (0.62 <= size <= 0.82) if variants[file.path] == "smaller" else size == 1
        assert len(copy.frames) / copy.fps >= IngestConfig().min_duration_sec
        assert file.events == pytest.approx([t for t in (e - first / 24 for e in source.events) if 0 <= t < kept * 3])
        rate = copy.sample_rate
        both = [copy.waveform, original.waveform[round(first / 24 * rate) :]]
        length = min(map(len, both))
        assert np.corrcoef(both[0][:length], both[1][:length])[0, 1] > 0.95
        if size == 1:
            difference = np.abs(copy.frames.astype(float) - original.frames[first : first + len(copy.frames)])
            assert 0 < difference.mean() < 6
        if variants[file.path] == "worse":
            assert file.path.stat().st_size < source.path.stat().st_size
    assert seen == set(NEAR_COPIES)


def test_periodic_files_are_aligned_and_their_offset_is_not_identifiable(world: list[File]) -> None:
    file = only(world, "periodic")
    clip = file.decode()
    gaps = np.diff(file.events)
    assert 0.35 <= gaps[0] <= 0.6
    assert gaps == pytest.approx(np.full(len(gaps), gaps[0]), abs=2e-4)
    assert file.events[0] < gaps[0]
    assert file.events[-1] > 3.0 - gaps[0]
    assert all(heard(file, clip))
    assert all(moves_at(file, clip))
    assert not file.identifiable


def test_only_what_is_seen_and_heard_has_an_identifiable_offset(world: list[File]) -> None:
    for kind in ("silent", "still", "swapped", "too_short", "broken", "periodic"):
        assert not only(world, kind).identifiable, kind
    assert any(file.identifiable for file in clean(world))


def test_too_short_is_too_short_and_broken_is_unreadable(world: list[File]) -> None:
    clip = only(world, "too_short").decode()
    assert len(clip.frames) / clip.fps == 1.0 < IngestConfig().min_duration_sec
    with pytest.raises(DataError):
        only(world, "broken").decode()


def test_names_tell_nothing(folder: Path) -> None:
    # The planted defects lie among the clean files, not behind them.
    defects = [file.defect for file in read_world(folder)]
    assert any(a != "none" and b == "none" for a, b in pairwise(defects))


def test_the_unseen_example_is_at_rest_and_sounds() -> None:
    image, sound, rate, caption = unseen_example(CONFIG)
    assert (image.shape, rate, len(sound)) == ((48, 48, 3), 44100, 3 * 44100)
    assert np.abs(sound).max() > 0.1
    assert CATALOGUE[0].label in caption
    again = unseen_example(CONFIG)
    assert np.array_equal(image, again[0])
    assert np.array_equal(sound, again[1])

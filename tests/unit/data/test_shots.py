"""A long source comes apart at its cuts, found in windows as they would be in the whole."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.curation.signals.cuts import find_cuts
from soundstage.data.ranges import plan_ranges
from soundstage.data.shots import _cuts, cut_times, plan_shots
from soundstage.data.sources import WHOLE, Range
from soundstage.media.normalise import NormaliseSettings, Span, decode_spans
from soundstage.media.probe import Limits, SourceProbe, probe

from ..media.makers import pulses, write_source

LIMITS = Limits(0.5, 100.0, 10**7)


def scenes(rng: np.random.Generator, lengths: list[int], side: int = 16) -> NDArray[np.uint8]:
    """Grey scenes of noise, each moving a little from frame to frame; now and then a flash."""
    shots = []
    for length in lengths:
        picture = rng.integers(0, 256, (side, side))
        drift = rng.integers(-3, 4, (length, side, side)).cumsum(0)
        shot = np.clip(picture + drift, 0, 255)
        if rng.random() < 0.3:
            shot[rng.integers(length)] = 255
        shots.append(shot)
    return np.concatenate(shots).astype(np.uint8)


def timed(frames: NDArray[np.uint8]) -> Iterator[tuple[Fraction, NDArray[np.uint8]]]:
    return ((Fraction(index), frame) for index, frame in enumerate(frames))


@pytest.mark.parametrize("window", [25, 40, 64, 1000])
@pytest.mark.parametrize("seed", range(6))
def test_windows_find_what_the_whole_does(window: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = scenes(rng, [int(n) for n in rng.integers(1, 30, 25)])
    whole = find_cuts(frames)
    assert len(whole) >= 5
    # Frame i lies at i seconds, so the switch from i - 1 to i is at i - 1/2.
    assert [(cut - 1) / 1e6 + 0.5 for cut in _cuts(timed(frames), window)] == whole


def test_a_film_is_not_held_as_a_whole() -> None:
    held = most = 0

    def gone() -> None:
        nonlocal held
        held -= 1

    def film() -> Iterator[tuple[Fraction, NDArray[np.uint8]]]:
        nonlocal held, most
        for index in range(2000):
            frame = np.full((16, 16), index // 40 % 2 * 200, np.uint8)
            weakref.finalize(frame, gone)
            held += 1
            most = max(most, held)
            yield Fraction(index), frame

    cuts = list(_cuts(film(), window=50))
    assert len(cuts) == 49
    assert most <= 52, "a window, and the frame before and after it"


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_short_streams_have_no_cut(count: int) -> None:
    assert list(_cuts(timed(np.zeros((count, 16, 16), np.uint8)))) == []


@pytest.mark.parametrize(
    ("bounds", "cuts", "expected"),
    [
        ((0, 9), [3], [(0, 9)]),
        ((0, 20), [], [(0, 10), (10, 10)]),
        ((0, 20), [4], [(0, 4), (4, 8), (12, 8)]),
        ((0, 30), [10, 20], [(0, 10), (10, 10), (20, 10)]),
        ((5, 20), [3, 5, 9, 20, 25], [(5, 4), (9, 5.5), (14.5, 5.5)]),
    ],
    ids=["short enough", "no cut", "a long shot", "shots that fit", "cuts at and outside the bounds"],
)
def test_shots_then_equal_parts(bounds: tuple[int, int], cuts: list[int], expected: list[tuple[float, float]]) -> None:
    start, end = (1_000_000 * bound for bound in bounds)
    spans = plan_shots(start, end, [1_000_000 * cut for cut in cuts], 10.0)
    assert [(span.start_us / 1e6, span.duration_us / 1e6) for span in spans] == expected


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SourceProbe]:
    """Seven seconds at 12 frames a second: shots of 2, 3, 0.5 and 1.5 s, each of one mean level."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-40, 41, (4, 6, 8, 1)).repeat(8, 1).repeat(8, 2)
    pictures = []
    for shot, (length, level) in enumerate(((24, 60), (36, 120), (6, 190), (18, 90))):
        for index in range(length):
            picture = np.roll(level + noise[shot], index, axis=1)
            pictures.append(np.clip(picture, 0, 255).astype(np.uint8).repeat(3, 2))
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_source(path, pictures, [i / 12 for i in range(84)], [(0.0, pulses(7.0))])
    return path, probe(path, LIMITS)


def test_cuts_are_placed_between_the_shots(film: tuple[Path, SourceProbe]) -> None:
    # Half a frame (1/24 s) before the new shot's first picture; the file's time stamps are whole milliseconds.
    expected = [2 - 1 / 24, 5 - 1 / 24, 5.5 - 1 / 24]
    assert [cut / 1e6 for cut in cut_times(*film, 7_000_000)] == pytest.approx(expected, abs=1e-3)
    assert [cut / 1e6 for cut in cut_times(*film, 3_000_000)] == pytest.approx(expected[:1], abs=1e-3)


def test_no_clip_shows_its_neighbour(film: tuple[Path, SourceProbe]) -> None:
    path, source = film
    bounds = [0, *cut_times(path, source, 7_000_000), 7_000_000]
    spans = [Span(start, end - start) for start, end in pairwise(bounds)]
    clips = decode_spans(path, source, spans, NormaliseSettings(48, 24, 16000))
    for frames, level in zip(clips, (60, 120, 190, 90), strict=True):
        assert frames.mean(axis=(1, 2, 3)) == pytest.approx([level] * len(frames), abs=8)


def test_time_of_a_source_is_clips_and_rejects(film: tuple[Path, SourceProbe]) -> None:
    (planned,) = plan_ranges(*film, [WHOLE], span_sec=2.5, min_duration_sec=1.0)
    assert [span.duration_us / 1e6 for span in planned.spans] == pytest.approx([1.958, 1.5, 1.5, 1.542], abs=2e-3)
    (short,) = planned.rejects
    assert (short.reason, short.duration_us) == ("too_short", 500_000)
    pieces = [(span.start_us, span.duration_us) for span in planned.spans]
    pieces = sorted([*pieces, (short.start_us, short.duration_us)])
    assert sum(duration for _, duration in pieces) == 7_000_000
    assert all(start + duration == after for (start, duration), (after, _) in pairwise(pieces))


@pytest.mark.parametrize(
    ("wanted", "spans", "reasons"),
    [
        (Range(1_000_000, 3_000_000), [(1.0, 2.0)], []),
        (Range(6_000_000, -1), [(6.0, 1.0)], []),
        (Range(5_000_000, 7_400_000), [(5.0, 2.0)], []),
        (Range(5_000_000, 7_600_000), [], ["bad_span"]),
        (Range(7_000_000, -1), [], ["bad_span"]),
        (Range(7_100_000, 7_200_000), [], ["bad_span"]),
        (Range(1_000_000, 1_500_000), [], ["too_short"]),
    ],
    ids=["inside", "to the end", "a little past", "far past", "from the end", "after the end", "too short"],
)
def test_wanted_parts(film: tuple[Path, SourceProbe], wanted: Range, spans: list[object], reasons: list[str]) -> None:
    (planned,) = plan_ranges(*film, [wanted], span_sec=2.5, min_duration_sec=1.0)
    assert [(span.start_us / 1e6, span.duration_us / 1e6) for span in planned.spans] == spans
    assert [reject.reason for reject in planned.rejects] == reasons

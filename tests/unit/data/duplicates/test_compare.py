"""What two fingerprints are to each other: the same, related or neither, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.compare import Comparison, Hearing, Relation, compare, relation
from soundstage.data.duplicates.fingerprint import Fingerprint

from .makers import cut, random_print, silenced, worn

LIMITS = SplitConfig()
Change = Callable[[np.random.Generator, Fingerprint], Fingerprint]


def stranger_with(name: str) -> Change:
    return lambda rng, clip: replace(clip, **{name: getattr(random_print(rng, 6.0), name)})


CASES: dict[str, tuple[Change, Relation, Hearing]] = {
    "equal": (lambda rng, clip: clip, Relation.SAME, Hearing.AGREES),
    "worn": (lambda rng, clip: worn(rng, clip, 0.15), Relation.SAME, Hearing.AGREES),
    "worn out": (lambda rng, clip: worn(rng, clip, 0.4), Relation.OTHER, Hearing.DIFFERS),
    "other sound": (stranger_with("sound"), Relation.RELATED, Hearing.DIFFERS),
    "sound taken away": (lambda rng, clip: silenced(clip), Relation.RELATED, Hearing.DIFFERS),
    "other picture": (stranger_with("picture"), Relation.OTHER, Hearing.AGREES),
    "flat picture": (
        lambda rng, clip: replace(clip, picture_sure=np.zeros_like(clip.picture_sure)),
        Relation.OTHER,
        Hearing.AGREES,
    ),
    "other motion": (stranger_with("motion"), Relation.RELATED, Hearing.AGREES),
    "no motion": (lambda rng, clip: replace(clip, motion=np.zeros_like(clip.motion)), Relation.SAME, Hearing.AGREES),
    "other sound and motion": (
        lambda rng, clip: replace(random_print(rng, 6.0), picture=clip.picture),
        Relation.OTHER,
        Hearing.DIFFERS,
    ),
    "another clip": (lambda rng, clip: random_print(rng, 6.0), Relation.OTHER, Hearing.DIFFERS),
}


def related(first: Fingerprint, second: Fingerprint, offset_sec: float) -> tuple[Relation, Comparison]:
    found = compare(first, second, offset_sec, LIMITS)
    assert found is not None
    return relation(found, LIMITS), found


@pytest.mark.parametrize(("change", "wanted", "heard"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", range(3))
def test_relations(change: Change, wanted: Relation, heard: Hearing, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = random_print(rng, 6.0)
    other = change(rng, clip)
    kind, found = related(clip, other, 0.0)
    assert (kind, found.hearing) == (wanted, heard)
    # The other way round it is the same.
    assert related(other, clip, 0.0)[0] is kind


def test_without_sound_on_either_side_motion_decides() -> None:
    rng = np.random.default_rng(0)
    clip = silenced(random_print(rng, 6.0))
    assert related(clip, clip, 0.0)[0] is Relation.SAME
    assert related(clip, clip, 0.0)[1].audio_bit_error is None
    assert (
        related(clip, replace(random_print(rng, 6.0), sound=clip.sound, picture=clip.picture), 0.0)[0] is Relation.OTHER
    )
    still = replace(clip, motion=np.zeros_like(clip.motion))
    assert related(still, still, 0.0)[0] is Relation.OTHER
    # Five movements are needed: fewer fit by chance.
    assert related(cut(clip, 0.0, 1.5), cut(clip, 0.0, 1.5), 0.0)[0] is Relation.OTHER


@pytest.mark.parametrize("start_sec", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("missed_sec", [-0.08, 0.0, 0.08])
def test_a_part_lies_where_it_was_cut(start_sec: float, missed_sec: float) -> None:
    rng = np.random.default_rng(1)
    clip = random_print(rng, 6.0)
    part = worn(rng, cut(clip, start_sec, 3.0), 0.1)
    kind, found = related(clip, part, start_sec + missed_sec)
    assert kind is Relation.SAME
    assert found.offset_sec == pytest.approx(start_sec)
    assert found.overlap_sec == pytest.approx(3.0, abs=0.1)
    # A tenth of 75 * 32 bits are turned, a twentieth of 24 * 64: within five sigma.
    assert found.audio_bit_error == pytest.approx(0.1, abs=5 * 0.3 / np.sqrt(2400))
    assert found.video_bit_error == pytest.approx(0.05, abs=5 * 0.22 / np.sqrt(1500))
    assert related(part, clip, -start_sec - missed_sec)[1].offset_sec == pytest.approx(found.reversed().offset_sec)


@pytest.mark.parametrize(
    ("offset_sec", "enough"), [(0.0, True), (1.9, True), (2.2, False), (-2.2, False), (9.0, False)]
)
def test_half_of_the_shorter_clip_must_be_common(offset_sec: float, enough: bool) -> None:
    clip = random_print(np.random.default_rng(2), 4.0)
    assert (compare(clip, clip, offset_sec, LIMITS) is not None) == enough


def test_a_second_must_be_common() -> None:
    clip = random_print(np.random.default_rng(2), 4.0)
    assert compare(clip, cut(clip, 0.0, 0.9), 0.0, LIMITS) is None
    assert compare(clip, cut(clip, 0.0, 1.1), 0.0, LIMITS) is not None

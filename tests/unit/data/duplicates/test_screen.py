"""A sampled look keeps the offset that fits and drops strangers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from soundstage.data.duplicates.fingerprint import Fingerprints
from soundstage.data.duplicates.index import Votes
from soundstage.data.duplicates.screen import screen_motion, screen_picture, screen_sound

from .makers import cut, random_print, silenced, worn


def votes(*rows: tuple[int, int, int]) -> Votes:
    first, second, offset = (np.array(column) for column in zip(*rows, strict=True))
    return Votes(first, second, offset, np.ones(len(rows), int))


def rows(found: Votes) -> list[tuple[int, int, int]]:
    return [(int(a), int(b), int(o)) for a, b, o in zip(found.first, found.second, found.offset, strict=True)]


@pytest.fixture
def prints() -> Fingerprints:
    rng = np.random.default_rng(0)
    clip = random_print(rng, 6.0)
    return Fingerprints.of([clip, worn(rng, cut(clip, 2.0, 3.0), 0.15), random_print(rng, 6.0), silenced(clip)])


def test_the_best_offset_of_a_pair_in_any_block_is_kept(prints: Fingerprints) -> None:
    blocks = [votes((0, 1, 49), (0, 1, 10)), votes((0, 1, 50), (0, 2, 0)), votes((0, 1, 51), (0, 3, 0))]
    assert rows(screen_sound(blocks, prints.sound, 0.2, 0.5)) == [(0, 1, 50)]


def test_too_little_in_common_is_dropped(prints: Fingerprints) -> None:
    # From 4.2 s on, 0.8 s of 3 s would be common; the words agree nowhere else.
    assert rows(screen_sound([votes((0, 0, 5))], prints.sound, 1.0, 0.5)) == [(0, 0, 5)]
    assert not rows(screen_sound([votes((0, 0, 105))], prints.sound, 1.0, 0.5))
    assert not rows(screen_sound([], prints.sound, 1.0, 0.5))


def test_pictures_are_screened_alike(prints: Fingerprints) -> None:
    given = votes((0, 1, 48), (0, 2, 0), (0, 3, 0), (2, 3, 1))
    assert rows(screen_picture(given, prints, 0.1, 0.5)) == [(0, 1, 48), (0, 3, 0)]
    assert rows(screen_picture(given, prints, 1.0, 0.5)) == rows(given)


def test_motion_at_other_times_is_dropped(prints: Fingerprints) -> None:
    given = votes((0, 1, 48), (0, 1, 60), (0, 2, 0), (0, 3, 0))
    assert rows(screen_motion(given, prints, 0.95, 0.5)) == [(0, 1, 48), (0, 3, 0)]
    still = Fingerprints.of([replace(prints[0], motion=np.zeros_like(prints[0].motion))] * 2)
    assert not rows(screen_motion(votes((0, 1, 0)), still, 0.95, 0.5))

"""Timing words say when it moves, by how strong it moves itself; partial sound words leave bands out."""

from __future__ import annotations

import numpy as np

from soundstage.data.duplicates.fingerprint import Fingerprints, Ragged
from soundstage.data.duplicates.words import NO_WORD, all_timing_words, partial_sound_words, smooth_motion, timing_words

from .makers import ALL_SURE, random_print


def words(motion: np.ndarray, picture: int = 0) -> list[np.ndarray]:
    pictures = np.full(-(-len(motion) // 3), picture, np.uint64)
    return timing_words(motion, pictures, np.full_like(pictures, ALL_SURE))


def test_motion_keeps_its_sum_and_its_place() -> None:
    motion = np.zeros(40, np.uint8)
    motion[20] = 160
    hill = smooth_motion(motion)
    assert len(hill) == 40
    assert hill.sum() == 160
    assert hill.argmax() == 20
    assert np.allclose(hill[17:24], [10, 20, 30, 40, 30, 20, 10])
    assert len(smooth_motion(motion[:0])) == 0


def test_bits_are_the_ticks_that_move() -> None:
    motion = np.zeros(100, np.uint8)
    motion[[10, 30, 31, 44]] = 200
    hills = smooth_motion(motion)
    (word, _) = (int(part[4]) for part in words(motion))
    span = hills[4 : 4 + 47]
    wanted = sum(1 << i for i in range(24) if span[2 * i] > 0.5 * span.max())
    assert wanted
    assert word & 0xFF_FFFF == wanted


def test_contrast_does_not_matter_but_the_look_does() -> None:
    motion = random_print(np.random.default_rng(0), 6.0).motion & 0xFE
    first, double = words(motion)[0], words(motion * 2)[0]
    assert (first == double).mean() > 0.9
    assert (first != NO_WORD).mean() > 0.5
    other = words(motion, picture=0b1)[0]
    usable = first != NO_WORD
    assert (first[usable] != other[usable]).all()
    assert ((first ^ other)[usable] == 1 << 25).all()


def test_nothing_is_told_by_rest_by_ceaseless_motion_or_by_two_seconds_too_few() -> None:
    rest = np.zeros(100, np.uint8)
    bump = rest.copy()
    bump[97] = 200
    assert not any(part.any() for motion in (rest, np.full(100, 90, np.uint8), rest[:40]) for part in words(motion))
    # A single end of a bump at the edge is no timing either.
    assert not words(bump[:98])[0].any()


def test_partial_words_leave_six_bands_out() -> None:
    sound = Ragged.joined([np.array([0, 0xFFFF_FFFF, 0xFC00_0000, 0x3F])], "<u4")
    top, bottom = partial_sound_words(sound)
    assert top[0].tolist() == [0, 0x03FF_FFFF, 0, 0x3F]
    assert bottom[0].tolist() == [0, 0xFFFF_FFC0, 0xFC00_0000, 0]


def test_a_corpus_has_the_words_of_its_clips() -> None:
    rng = np.random.default_rng(2)
    prints = Fingerprints.of([random_print(rng, seconds) for seconds in (4.0, 1.0, 2.0, 6.0)])
    looks = all_timing_words(prints)
    for clip in range(4):
        wanted = timing_words(prints.motion[clip], prints.picture[clip], prints.picture_sure[clip])
        for look, words_ in zip(looks, wanted, strict=True):
            assert np.array_equal(look[clip], words_)

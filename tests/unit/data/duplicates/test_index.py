"""Votes are those that counting by hand gives, whatever the blocks; common words cost little."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from soundstage.data.duplicates.fingerprint import Ragged
from soundstage.data.duplicates.index import (
    COMMON,
    COMMON_NEIGHBOURS,
    NEIGHBOURS,
    Votes,
    agreed,
    joined,
    summed,
    vote_blocks,
)


def corpus(seed: int, clips: int = 12, values: int = 40) -> tuple[Ragged, np.ndarray]:
    """Few different words, so that there is much to count; 0 is none; two clips a source."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, values, rng.integers(0, 15)).repeat(rng.integers(1, 3)) for _ in range(clips)]
    return Ragged.joined(parts, "<u4"), np.arange(clips) // 2


def by_hand(words: Ragged, sources: np.ndarray) -> Counter[tuple[int, int, int]]:
    entries = [
        (clip, tick, word)
        for clip in range(len(words))
        for tick, word in enumerate(words[clip])
        if word and (tick == 0 or words[clip][tick - 1] != word)
    ]
    return Counter(
        (a, b, s - t) for a, s, v in entries for b, t, w in entries if a < b and v == w and sources[a] != sources[b]
    )


def counted(votes: Votes) -> dict[tuple[int, int, int], int]:
    return {(int(a), int(b), int(o)): int(n) for a, b, o, n in zip(*votes, strict=True)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block_entries", [1, 7, 1000])
def test_votes_are_all_pairs_with_a_word_in_common(seed: int, block_entries: int) -> None:
    words, sources = corpus(seed)
    assert max(Counter(words.values.tolist()).values()) <= NEIGHBOURS
    found = summed(list(vote_blocks([words], sources, block_entries=block_entries)))
    assert counted(found) == by_hand(words, sources)
    order = list(zip(found.first, found.second, found.offset, strict=True))
    assert order == sorted(order)


def test_kinds_of_words_vote_together_but_never_meet() -> None:
    words, sources = corpus(0)
    other, _ = corpus(1)
    found = counted(summed(list(vote_blocks([words, other], sources))))
    assert found == by_hand(words, sources) + by_hand(other, sources)


@pytest.mark.parametrize(
    ("clips", "neighbours"), [(COMMON, NEIGHBOURS), (COMMON + 2, COMMON_NEIGHBOURS), (2000, COMMON_NEIGHBOURS)]
)
def test_a_word_of_very_many_clips_costs_no_more_than_its_entries(clips: int, neighbours: int) -> None:
    words = Ragged.joined([np.array([5, 1000 + clip // 2]) for clip in range(clips)], "<u4")
    found = summed(list(vote_blocks([words], np.arange(clips))))
    assert len(found.first) == neighbours * clips - neighbours * (neighbours + 1) // 2
    # Yet they hang together, and what a pair alone has is found.
    assert set(found.second - found.first) == set(range(1, neighbours + 1))
    assert (found.number == 2).sum() == clips // 2


def test_nothing_gives_no_votes() -> None:
    empty = Ragged.joined([np.zeros(0), np.zeros(3), np.zeros(0)], "<u4")
    assert not len(summed(list(vote_blocks([empty], np.arange(3)))).first)
    assert not len(joined([]).best_of_pairs(np.zeros(0)).first)


@pytest.mark.parametrize("seed", range(3))
def test_agreed_offsets_have_most_votes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = {(int(rng.integers(4)), 4 + int(rng.integers(3)), int(rng.integers(-4, 5))) for _ in range(60)}
    votes = {row: int(rng.integers(1, 4)) for row in rows}
    ordered = sorted(votes)
    first, second, offset = (np.array(column) for column in zip(*ordered, strict=True))
    given = Votes(first, second, offset, np.array([votes[row] for row in ordered]))
    found = counted(agreed(given, 4))
    wanted = {}
    for a, b in {row[:2] for row in rows}:
        total = {o: sum(votes.get((a, b, o + d), 0) for d in (-1, 0, 1)) for x, y, o in rows if (x, y) == (a, b)}
        best = min(total, key=lambda o: (-total[o], -votes[a, b, o], abs(o), o))
        if total[best] >= 4:
            wanted[a, b, best] = votes[a, b, best]
    assert found == wanted


def test_clips_too_long_to_pack_are_refused() -> None:
    words = Ragged.joined([np.zeros(1 << 15)], "<u4")
    with pytest.raises(ValueError, match="1 clips of up to 32768 ticks; at most"):
        list(vote_blocks([words], np.arange(1)))

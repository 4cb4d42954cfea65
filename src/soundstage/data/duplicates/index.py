"""Which pairs of clips are worth comparing: an inverted index over words, and votes for an offset.

Two clips that have the same word at two places vote for the offset between these places (Haitsma and Kalker, ISMIR
2002, section 4; voting after Wang, "An Industrial-Strength Audio Search Algorithm", ISMIR 2003). Work and memory are
bounded: words are sorted block by block, and an entry meets only the next NEIGHBOURS entries of its word. A stop word,
one with more than COMMON entries such as the hum of one kind of camera, lets each meet the next few only: it hardly
votes, yet a thousand copies of one clip still hang together. Silent ticks and ticks without motion have no word at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fingerprint import Ragged

NEIGHBOURS = 32
COMMON, COMMON_NEIGHBOURS = 64, 4
BLOCK_ENTRIES = 1_000_000
_OFFSET_BITS = 16
_CLIP_BITS = 24
_ZERO_OFFSET = 1 << (_OFFSET_BITS - 1)
# Fibonacci hashing: spreads words, which are anything but uniform, over the blocks.
_GOLDEN = np.uint32(2_654_435_769)


class Votes(NamedTuple):
    """Offsets that words vote for; each array (votes,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """always above `first`"""
    offset: NDArray[np.int64]
    """ticks; tick t of the second clip is tick t + offset of the first"""
    number: NDArray[np.int64]
    """entries that vote for it"""

    def take(self, chosen: NDArray[Any] | slice) -> Votes:
        """Some of them, by index, mask or slice."""
        return Votes(*(part[chosen] for part in self))

    def best_of_pairs(self, rank: NDArray[Any]) -> Votes:
        """One a pair: of the lowest `rank` (votes,), of these the offset nearest to 0."""
        order = np.lexsort((self.offset, np.abs(self.offset), rank, self.second, self.first))
        ordered = self.take(order)
        is_first = np.ones(len(order), bool)
        is_first[1:] = (np.diff(ordered.first) != 0) | (np.diff(ordered.second) != 0)
        return ordered.take(is_first)


class _Entries(NamedTuple):
    word: NDArray[np.uint32]
    clip: NDArray[np.int32]
    tick: NDArray[np.int32]


def vote_blocks(
    words: Iterable[Ragged], sources: NDArray[np.int64], *, block_entries: int = BLOCK_ENTRIES
) -> Iterator[Votes]:
    """Votes of all pairs of clips of different `sources` (clips,) that share a word, some at a time.

    `words` holds one or several kinds, each a Ragged over all clips with 0 for no word. Votes for one offset may come
    at several times. Together they depend on the order of clips (give a canonical one), never on `block_entries`, the
    entries sorted and the most votes given at once, which bounds memory.

    Raises:
        ValueError: more clips, or longer ones, than the packed votes hold.
    """
    for kind in words:
        for block in _blocks(_checked(kind), block_entries):
            yield from _votes(block, sources)


def joined(parts: Sequence[Votes]) -> Votes:
    """Votes of several blocks in a row, without adding up equal ones."""
    none = np.zeros(0, np.int64)
    return (
        Votes(*(np.concatenate([none, *columns]) for columns in zip(*parts, strict=True)))
        if parts
        else Votes(*[none] * 4)
    )


def summed(parts: Sequence[Votes]) -> Votes:
    """Votes of several blocks, equal ones added up."""
    votes = joined(parts)
    distinct, back = np.unique(_packed(votes.first, votes.second, votes.offset), return_inverse=True)
    # Floats hold these integers exactly.
    counts = np.bincount(back, weights=votes.number, minlength=len(distinct)).astype(np.int64)
    return _unpacked(distinct, counts)


def agreed(votes: Votes, min_votes: int) -> Votes:
    """The offset of each pair with most votes, those one tick beside it counted, if they are `min_votes`.

    `votes` is ascending by (first, second, offset), as `summed` gives it.
    """
    offset = votes.offset
    beside = (np.diff(votes.first) == 0) & (np.diff(votes.second) == 0) & (np.diff(offset) == 1)
    total = votes.number.copy()
    total[1:] += np.where(beside, votes.number[:-1], 0)
    total[:-1] += np.where(beside, votes.number[1:], 0)
    enough = total >= min_votes
    # Own votes decide between neighbours with an equal total.
    rank = -(total * (1 + int(votes.number.max(initial=0))) + votes.number)
    return votes.take(enough).best_of_pairs(rank[enough])


def _checked(words: Ragged) -> Ragged:
    longest = int(np.diff(words.starts).max(initial=0))
    if len(words) >= 1 << _CLIP_BITS or longest >= _ZERO_OFFSET:
        raise ValueError(
            f"found {len(words)} clips of up to {longest} ticks; at most {(1 << _CLIP_BITS) - 1} clips of "
            f"{_ZERO_OFFSET - 1} ticks can be compared at once"
        )
    return words


def _blocks(words: Ragged, block_entries: int) -> Iterator[_Entries]:
    """Entries in order of clip and tick, all of one word in one block; a word that lasts is entered once."""
    values = words.values
    usable = np.ones(len(values), bool)
    usable[1:] = values[1:] != values[:-1]
    usable[words.starts[:-1][words.starts[:-1] < len(values)]] = True
    usable &= values != 0
    number = min(max(1, -(-int(usable.sum()) // block_entries)), np.iinfo(np.uint16).max)
    block_of = (((values * _GOLDEN) >> np.uint32(8)) % np.uint32(number)).astype(np.uint16)
    for block in range(number):
        here = np.flatnonzero(usable & (block_of == block))
        clip = np.searchsorted(words.starts, here, side="right") - 1
        yield _Entries(values[here], clip.astype(np.int32), (here - words.starts[clip]).astype(np.int32))


def _votes(entries: _Entries, sources: NDArray[np.int64]) -> Iterator[Votes]:
    """Votes of each entry with the next one of its word, with the one after that, and so on."""
    order = np.argsort(entries.word, kind="stable")
    word, clip, tick = (part[order] for part in entries)
    first_of_word = np.flatnonzero(np.diff(word, prepend=np.uint32(0)) != 0)
    sizes = np.diff(first_of_word, append=len(word))
    is_rare = np.repeat(sizes <= COMMON, sizes)
    for step in range(1, NEIGHBOURS + 1):
        same = word[step:] == word[:-step]
        if step > COMMON_NEIGHBOURS:
            same &= is_rare[step:]
        here = np.flatnonzero(same)
        if not len(here):
            return
        here = here[sources[clip[here]] != sources[clip[here + step]]]
        packed = _packed(clip[here], clip[here + step], tick[here] - tick[here + step])
        yield _unpacked(*np.unique(packed, return_counts=True))


def _packed(first: NDArray[Any], second: NDArray[Any], offset: NDArray[Any]) -> NDArray[np.uint64]:
    pair = (first.astype(np.uint64) << np.uint64(_CLIP_BITS)) | second.astype(np.uint64)
    return (pair << np.uint64(_OFFSET_BITS)) | (offset.astype(np.int64) + _ZERO_OFFSET).astype(np.uint64)


def _unpacked(packed: NDArray[np.uint64], counts: NDArray[np.int64]) -> Votes:
    pair = packed >> np.uint64(_OFFSET_BITS)
    return Votes(
        (pair >> np.uint64(_CLIP_BITS)).astype(np.int64),
        (pair & np.uint64((1 << _CLIP_BITS) - 1)).astype(np.int64),
        (packed & np.uint64((1 << _OFFSET_BITS) - 1)).astype(np.int64) - _ZERO_OFFSET,
        counts,
    )

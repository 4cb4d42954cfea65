"""All pairs of clips of a corpus that are near-duplicates or related: found by the index, then compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...config.tree import SplitConfig
from .compare import Comparison, Relation, compare, relation
from .fingerprint import Fingerprints
from .index import BLOCK_ENTRIES, agreed, summed, vote_blocks
from .picture import MOTION_HZ
from .screen import screen_motion, screen_picture, screen_sound
from .sound import SOUND_HZ
from .words import all_timing_words, partial_sound_words

_MIN_TIMING_VOTES = 2


@dataclass(frozen=True)
class Link:
    """Two clips, by their place in the corpus, and what they are to each other."""

    first: int
    second: int
    relation: Relation
    found: Comparison


def find_links(
    prints: Fingerprints, sources: NDArray[np.int64], limits: SplitConfig, *, block_entries: int = BLOCK_ENTRIES
) -> list[Link]:
    """Links between clips of different `sources` (clips,), ascending by (first, second).

    Time grows nearly in proportion to the clips; memory with the fingerprints and one block of `block_entries`. Clips
    must come in a canonical order, for which the result is the same whatever the block size.
    """
    links: dict[tuple[int, int], Link] = {}
    for first, second, offset_sec in _nominated(prints, sources, limits, block_entries):
        known = links.get((first, second))
        if known is not None and known.relation is Relation.SAME:
            continue
        found = compare(prints[first], prints[second], offset_sec, limits)
        kind = relation(found, limits) if found is not None else Relation.OTHER
        if found is not None and kind is not Relation.OTHER and (known is None or kind is Relation.SAME):
            links[first, second] = Link(first, second, kind, found)
    return [links[pair] for pair in sorted(links)]


def _nominated(
    prints: Fingerprints, sources: NDArray[np.int64], limits: SplitConfig, block_entries: int
) -> Iterator[tuple[int, int, float]]:
    """Pairs and the offset at which they may agree: by sound first, then by the timing of motion."""
    sound_votes = vote_blocks(partial_sound_words(prints.sound), sources, block_entries=block_entries)
    by_sound = screen_sound(sound_votes, prints.sound, limits.max_audio_bit_error, limits.min_overlap)
    limit = limits.max_video_bit_error / 2
    timing_votes = [
        screen_picture(votes, prints, limit, limits.min_overlap)
        for votes in vote_blocks(all_timing_words(prints), sources, block_entries=block_entries)
    ]
    by_timing = agreed(summed(timing_votes), _MIN_TIMING_VOTES)
    by_timing = screen_motion(by_timing, prints, limits.min_motion_correlation, limits.min_overlap)
    for votes, rate in ((by_sound, SOUND_HZ), (by_timing, MOTION_HZ)):
        for first, second, offset in zip(votes.first, votes.second, votes.offset, strict=True):
            yield int(first), int(second), int(offset) / rate

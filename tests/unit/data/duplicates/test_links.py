"""The links of a corpus are those of comparing all pairs at all offsets, in whatever order and blocks it comes."""

from __future__ import annotations

import numpy as np
import pytest

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.compare import Hearing, Relation, compare, relation
from soundstage.data.duplicates.fingerprint import Fingerprint, Fingerprints
from soundstage.data.duplicates.index import NEIGHBOURS
from soundstage.data.duplicates.links import Link, find_links

from .makers import cut, random_print, silenced, worn

LIMITS = SplitConfig()


def corpus(seed: int) -> list[Fingerprint]:
    """Strangers, worn and cut copies, copies of copies, silent ones, and the sound of one with the rest of another."""
    rng = np.random.default_rng(seed)
    clips = [random_print(rng, float(rng.uniform(3.5, 5.0))) for _ in range(9)]
    for original in clips[:4]:
        seconds = len(original.motion) / 24
        kept = seconds * rng.uniform(0.6, 1.0)
        clips.append(worn(rng, cut(original, rng.uniform(0.0, seconds - kept), kept), rng.uniform(0.0, 0.16)))
    clips.append(worn(rng, clips[-1], 0.02))
    clips += [silenced(clips[4]), silenced(clips[5]), silenced(worn(rng, clips[5], 0.1))]
    clips.append(Fingerprint(clips[6].sound, clips[7].picture, clips[7].picture_sure, clips[7].motion))
    return [clips[index] for index in rng.permutation(len(clips))]


def brute_force(clips: list[Fingerprint]) -> dict[tuple[int, int], Relation]:
    """The strongest relation of each pair over every offset; `compare` looks two sound ticks to either side."""
    found: dict[tuple[int, int], Relation] = {}
    for b, second in enumerate(clips):
        for a, first in enumerate(clips[:b]):
            places = range(-len(second.sound), len(first.sound) + 1, 3)
            looks = [look for place in places if (look := compare(first, second, place / 25, LIMITS)) is not None]
            kinds = {relation(look, LIMITS) for look in looks}
            # Where sound agrees it says where the clips lie, and only there they are judged.
            heard = [look for look in looks if look.hearing is Hearing.AGREES]
            if heard:
                kinds = {relation(min(heard, key=lambda look: look.audio_bit_error or 0.0), LIMITS)} | (
                    kinds & {Relation.RELATED}
                )
            if kind := next((kind for kind in (Relation.SAME, Relation.RELATED) if kind in kinds), None):
                found[a, b] = kind
    return found


def found_links(clips: list[Fingerprint], **options: int) -> list[Link]:
    return find_links(Fingerprints.of(clips), np.arange(len(clips)), LIMITS, **options)


@pytest.mark.parametrize("seed", range(3))
def test_links_are_those_of_all_pairs(seed: int) -> None:
    clips = corpus(seed)
    links = found_links(clips)
    assert {(link.first, link.second): link.relation for link in links} == brute_force(clips)
    kinds = [link.relation for link in links]
    assert kinds.count(Relation.SAME) >= 5
    assert kinds.count(Relation.RELATED) >= 3


@pytest.mark.parametrize("seed", range(3))
def test_order_and_blocks_do_not_matter(seed: int) -> None:
    clips = corpus(seed)
    links = found_links(clips)
    assert found_links(clips, block_entries=50) == links
    order = np.random.default_rng(seed).permutation(len(clips))
    shuffled = found_links([clips[index] for index in order])

    def pairs(links: list[Link], names: np.ndarray) -> set[tuple[frozenset[int], Relation, float]]:
        return {
            (frozenset((int(names[x.first]), int(names[x.second]))), x.relation, abs(x.found.offset_sec)) for x in links
        }

    assert pairs(shuffled, order) == pairs(links, np.arange(len(clips)))


def test_spans_of_one_source_are_not_linked() -> None:
    clip = random_print(np.random.default_rng(0))
    prints = Fingerprints.of([clip, clip, clip])
    found = find_links(prints, np.array([0, 0, 1]), LIMITS)
    assert [(link.first, link.second) for link in found] == [(0, 2), (1, 2)]


def test_an_empty_corpus_has_no_links() -> None:
    assert found_links([]) == []


def test_very_many_copies_of_one_clip_hang_together() -> None:
    """Each word has more clips than neighbours are looked at, and every clip is linked to as many."""
    clip = cut(random_print(np.random.default_rng(0)), 0.0, 1.6)
    links = found_links([clip] * 60)
    assert {(link.first, link.second) for link in links} == {
        (a, b) for b in range(60) for a in range(b) if b - a <= NEIGHBOURS
    }

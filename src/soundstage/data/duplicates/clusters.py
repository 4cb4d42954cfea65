"""From links to what a manifest says: groups that a split must not divide, and which clip stands for its copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...config.tree import SplitConfig
from .compare import Comparison, Relation, compare, relation
from .fingerprint import Fingerprints
from .links import Link

Row = Mapping[str, Any]


class Duplicate(NamedTuple):
    """A clip and the one that stands for it, by their places in the corpus."""

    clip: int
    kept: int
    found: Comparison
    """`kept` is its first clip"""


class UnionFind:
    """Disjoint sets of 0..count-1; the smallest member names its set, whatever the order of joins."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Smallest member of the set of `item`."""
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, a: int, b: int) -> None:
        """Make one set of two."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low


def group_names(clips: Sequence[Row], links: Iterable[Link]) -> list[str]:
    """Group of each clip: the smallest source hash among all sources that links join, directly or not."""
    hashes = sorted({clip["source_sha256"] for clip in clips})
    place = {name: index for index, name in enumerate(hashes)}
    sets = UnionFind(len(hashes))
    for link in links:
        sets.join(place[clips[link.first]["source_sha256"]], place[clips[link.second]["source_sha256"]])
    return [hashes[sets.find(place[clip["source_sha256"]])] for clip in clips]


def kept_first(clip: Row) -> tuple[int, int, str, int, str]:
    """Key by which, of near-duplicates, the first is kept: the longest, then the largest picture, then by name."""
    return (
        -clip["duration_us"],
        -clip["width"] * clip["height"],
        clip["source_uri"],
        clip["start_us"],
        clip["clip_id"],
    )


def find_duplicates(
    clips: Sequence[Row], prints: Fingerprints, links: Iterable[Link], limits: SplitConfig
) -> list[Duplicate]:
    """Which clips another one stands for, ascending by clip.

    A clip is a duplicate of a kept clip only if these two were compared: parts of one film that overlap in a chain are
    one group, yet its ends have nothing in common and each is kept. So of the clips that hang together the first by
    `kept_first` is kept, its copies are its duplicates, and the same again with what remains.
    """
    edges: dict[int, dict[int, Comparison]] = defaultdict(dict)
    sets = UnionFind(len(clips))
    for link in links:
        if link.relation is Relation.SAME:
            edges[link.first][link.second] = link.found
            edges[link.second][link.first] = link.found.reversed()
            sets.join(link.first, link.second)
    members: dict[int, list[int]] = defaultdict(list)
    for clip in sorted(edges):
        members[sets.find(clip)].append(clip)
    found: list[Duplicate] = []
    for together in members.values():
        ordered = sorted(together, key=lambda index: kept_first(clips[index]))
        found += _of_cluster(ordered, clips, prints, edges, limits)
    return sorted(found)


def _of_cluster(
    ordered: list[int],
    clips: Sequence[Row],
    prints: Fingerprints,
    edges: Mapping[int, Mapping[int, Comparison]],
    limits: SplitConfig,
) -> Iterable[Duplicate]:
    starts = _starts(min(ordered), edges)
    waiting = ordered
    while waiting:
        kept, rest, waiting = waiting[0], waiting[1:], []
        for clip in rest:
            found = edges[kept].get(clip)
            if found is None and clips[kept]["source_sha256"] != clips[clip]["source_sha256"]:
                # Large clusters are joined by some of their pairs only: see the index's bound on neighbours.
                found = compare(prints[kept], prints[clip], starts[clip] - starts[kept], limits)
            if found is not None and relation(found, limits) is Relation.SAME:
                yield Duplicate(clip, kept, found)
            else:
                waiting.append(clip)


def _starts(root: int, edges: Mapping[int, Mapping[int, Comparison]]) -> dict[int, float]:
    """Start of each clip of a cluster in seconds after that of `root`, added up along the fewest links."""
    starts = {root: 0.0}
    frontier = [root]
    while frontier:
        reached = []
        for clip in frontier:
            for other in sorted(edges[clip]):
                if other not in starts:
                    starts[other] = starts[clip] + edges[clip][other].offset_sec
                    reached.append(other)
        frontier = reached
    return starts

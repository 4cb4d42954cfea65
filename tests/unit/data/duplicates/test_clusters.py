"""Groups are what links join; of copies the longest is kept, and each duplicate was compared with the kept one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.clusters import Duplicate, UnionFind, find_duplicates, group_names, kept_first
from soundstage.data.duplicates.fingerprint import Fingerprint, Fingerprints
from soundstage.data.duplicates.links import find_links

from .makers import cut, random_print, silenced, worn

LIMITS = SplitConfig()
Row = Mapping[str, Any]


def row(name: str, source: str = "", **values: object) -> Row:
    blank = {"clip_id": name, "source_sha256": source or name, "source_uri": f"{name}.mp4", "start_us": 0}
    return blank | {"duration_us": 4_000_000, "width": 96, "height": 96} | values


def clustered(clips: dict[str, Fingerprint], **sources: str) -> tuple[list[str], dict[str, tuple[str, Duplicate]]]:
    """Groups, and for each duplicate the name of the kept clip."""
    rows = [
        row(name, sources.get(name, ""), duration_us=round(len(each.motion) / 24 * 1e6)) for name, each in clips.items()
    ]
    prints = Fingerprints.of(list(clips.values()))
    _, places = np.unique([each["source_sha256"] for each in rows], return_inverse=True)
    links = find_links(prints, places, LIMITS)
    found = find_duplicates(rows, prints, links, LIMITS)
    names = list(clips)
    return group_names(rows, links), {names[each.clip]: (names[each.kept], each) for each in found}


@pytest.mark.parametrize("seed", range(5))
def test_sets_are_those_of_a_search_and_named_by_their_smallest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 30, (18, 2)).tolist()
    sets = UnionFind(30)
    for a, b in pairs:
        sets.join(a, b)
    reached = np.eye(30, dtype=bool)
    for a, b in pairs:
        reached[a, b] = reached[b, a] = True
    for _ in range(30):
        reached = reached @ reached
    assert [sets.find(item) for item in range(30)] == [int(np.flatnonzero(line)[0]) for line in reached]


def test_the_longest_then_the_largest_then_the_first_by_name_is_kept() -> None:
    rows = [
        row("b"),
        row("longest", duration_us=5_000_000, width=48),
        row("a", start_us=7),
        row("larger", width=128),
        row("a", start_us=3),
    ]
    assert [(each["clip_id"], each["start_us"]) for each in sorted(rows, key=kept_first)] == [
        ("longest", 0), ("larger", 0), ("a", 3), ("a", 7), ("b", 0),
    ]  # fmt: skip


def test_copies_name_the_kept_clip_and_their_place_in_it() -> None:
    rng = np.random.default_rng(0)
    whole, other = random_print(rng, 5.0), random_print(rng, 5.0)
    groups, duplicates = clustered(
        {
            "c": whole,
            "other": other,
            "b": worn(rng, cut(whole, 1.0, 3.6), 0.05),
            "a": worn(rng, cut(whole, 0.0, 4.0), 0.05),
        }
    )
    assert groups == ["a", "other", "a", "a"]
    assert {name: kept for name, (kept, _) in duplicates.items()} == {"a": "c", "b": "c"}
    assert duplicates["b"][1].found.offset_sec == pytest.approx(1.0)
    assert duplicates["a"][1].found.offset_sec == pytest.approx(0.0)


def test_a_silent_copy_shares_the_group_and_is_no_duplicate() -> None:
    whole = random_print(np.random.default_rng(1), 5.0)
    groups, duplicates = clustered({"x": whole, "silent": silenced(whole)})
    assert groups == ["silent", "silent"]
    assert not duplicates


def test_the_ends_of_a_chain_are_one_group_and_both_kept() -> None:
    whole = random_print(np.random.default_rng(2), 12.0)
    parts = {f"{at}": cut(whole, 2.0 * at, 5.0 if at else 5.2) for at in range(4)}
    groups, duplicates = clustered(parts)
    assert set(groups) == {"0"}
    # 0 is the longest; 1 shares 3 of its 5 s, 2 only 1 s, and stands for 3.
    assert {name: kept for name, (kept, _) in duplicates.items()} == {"1": "0", "3": "2"}


def test_groups_join_all_spans_of_linked_sources() -> None:
    rng = np.random.default_rng(3)
    first, second, third = (random_print(rng) for _ in range(3))
    clips = {"a1": first, "a2": second, "b1": worn(rng, second, 0.05), "b2": third}
    groups, duplicates = clustered(clips, a1="A", a2="A", b1="B", b2="B")
    assert groups == ["A"] * 4
    assert {name: kept for name, (kept, _) in duplicates.items()} == {"b1": "a2"}


def test_every_copy_of_a_large_cluster_names_one_clip() -> None:
    """The index links each clip to some neighbours only; the rest is compared at the offsets these add up to."""
    rng = np.random.default_rng(4)
    whole = random_print(rng, 3.0)
    clips = {"whole": whole}
    for number in range(80):
        start = rng.integers(0, 4) * 0.25
        clips[f"{number:02d}"] = cut(whole, start, 2.2)
    _, duplicates = clustered(clips)
    assert {kept for kept, _ in duplicates.values()} == {"whole"}
    assert len(duplicates) == 80

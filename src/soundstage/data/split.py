"""Splits are assigned once, right after ingestion, by group: no later step may move a clip, only drop it.

A group is what near-duplicates join of sources: all spans of one source, of its copies, and of copies of those fall
into one split. The clip that stands for its near-duplicates is told here too; `select` drops the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..config.slices import SplitSlice
from ..config.tree import SplitConfig
from ..errors import ConfigError, DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import sha256_text
from .duplicates.clusters import Duplicate, find_duplicates, group_names
from .duplicates.links import Link, find_links
from .duplicates.table import read_fingerprints
from .records import CLIPS, DUPLICATES, SPLITS, read_table, write_table

Row = Mapping[str, Any]

OPEN_CLASS = "open_class_test"
# Who goes first when there are fewer groups than splits.
_PRIORITY = ("pretrain", "test", "validation", "judge")


def run(config: SplitSlice, inputs: Inputs, work: Work) -> Outcome:
    """Fill `group`, `split` and `duplicate_of` of every clip; writes `clips.parquet` and `duplicates.parquet`.

    Near-duplicates are compared by the `fingerprints.parquet` of the ingestion. A silent or dubbed copy joins the group
    of its original without being called a duplicate.

    Raises:
        ConfigError: an open class that no clip has.
        DataError: nothing is left beside the open classes, or clips lack their fingerprints.
    """
    clips = read_table(work.workspace.output(inputs["ingest"], "clips.parquet"), CLIPS)
    # The canonical order: whatever was ingested together, or when, the same clips give the same groups.
    clips.sort(key=lambda clip: clip["clip_id"])
    links, duplicates = _near_duplicates(clips, inputs, work, config.split)
    groups = group_names(clips, links)
    labels: dict[str, set[str]] = defaultdict(set)
    for clip, group in zip(clips, groups, strict=True):
        labels[group].add(clip["label"])
    splits = assign_splits(labels, config.split)
    stands_for = {copy.clip: clips[copy.kept]["clip_id"] for copy in duplicates}
    rows = [
        clip | {"group": group, "split": splits[group], "duplicate_of": stands_for.get(index, "")}
        for index, (clip, group) in enumerate(zip(clips, groups, strict=True))
    ]
    write_table(work.out / "clips.parquet", CLIPS, rows, sort_by=["clip_id"])
    found = [_duplicate_row(copy, clips) for copy in duplicates]
    write_table(work.out / "duplicates.parquet", DUPLICATES, found, sort_by=["clip_id"])
    counts = {f"split_{name}": sum(row["split"] == name for row in rows) for name in SPLITS}
    counts |= {"near_duplicates": len(found), "clusters": len(set(stands_for.values()))}
    counts["largest_group"] = max(Counter(groups).values())
    return Outcome(counts={"clips": len(rows), "groups": len(splits), **counts})


def _near_duplicates(
    clips: Sequence[Row], inputs: Inputs, work: Work, config: SplitConfig
) -> tuple[list[Link], list[Duplicate]]:
    """Links and duplicates by place in `clips`; none when they are not wanted."""
    if not config.near_duplicates:
        return [], []
    if "fingerprints.parquet" not in inputs["ingest"].outputs:
        raise DataError(
            "the ingestion wrote no fingerprints.parquet, by which near-duplicates are found; rerun "
            "`soundstage ingest`, or set split.near_duplicates=false to go without"
        )
    path = work.workspace.output(inputs["ingest"], "fingerprints.parquet")
    prints = read_fingerprints(path, [clip["clip_id"] for clip in clips])
    _, sources = np.unique([clip["source_sha256"] for clip in clips], return_inverse=True)
    links = find_links(prints, sources.astype(np.int64), config)
    return links, find_duplicates(clips, prints, links, config)


def _duplicate_row(copy: Duplicate, clips: Sequence[Row]) -> Row:
    return {
        "clip_id": clips[copy.clip]["clip_id"],
        "duplicate_of": clips[copy.kept]["clip_id"],
        "offset_sec": copy.found.offset_sec,
        "overlap_sec": copy.found.overlap_sec,
        "video_bit_error": copy.found.video_bit_error,
        "audio_bit_error": copy.found.audio_bit_error,
        "motion_correlation": copy.found.motion_correlation,
    }


def assign_splits(labels: Mapping[str, set[str]], config: SplitConfig) -> dict[str, str]:
    """Split of each group, from the labels its clips have; the order in which groups are given does not matter.

    Groups with an open class are held out whole. The others are put in order by hash, label after label, and dealt so
    that after every group each split has had its share of the groups so far, to within one. So the shares hold over
    all groups, and nearly within each label. A split with a share gets at least one group if there are enough.
    """
    _check_open_classes(labels, config)
    held_out = {group for group, found in labels.items() if found & set(config.open_classes)}
    ordered = _ordered({group: min(found) for group, found in labels.items() if group not in held_out}, config.seed)
    if not ordered:
        raise DataError(
            f"all {len(labels)} groups belong to open classes ({', '.join(config.open_classes)}); "
            "leave some classes for training in split.open_classes"
        )
    return dict.fromkeys(held_out, OPEN_CLASS) | dict(zip(ordered, _deal(quotas(len(ordered), config)), strict=True))


def _check_open_classes(labels: Mapping[str, set[str]], config: SplitConfig) -> None:
    known = set().union(*labels.values())
    if unknown := sorted(set(config.open_classes) - known):
        raise ConfigError(
            f"split.open_classes names {', '.join(map(repr, unknown))}, which no clip has; "
            f"labels found: {', '.join(sorted(known))}"
        )


def _ordered(labels: Mapping[str, str], seed: int) -> list[str]:
    def key(group: str) -> tuple[str, str]:
        return sha256_text(f"{seed} label {labels[group]}"), sha256_text(f"{seed} group {group}")

    return sorted(labels, key=key)


def quotas(groups: int, config: SplitConfig) -> dict[str, int]:
    """Groups of each split: its share by largest remainder, then at least one where the share is above zero."""
    shares = {"judge": config.judge, "validation": config.validation, "test": config.test}
    shares["pretrain"] = 1.0 - sum(shares.values())
    wanted = [name for name in _PRIORITY if shares[name] > 0]
    exact = {name: shares[name] * groups for name in wanted}
    counts = {name: int(exact[name]) for name in wanted}
    by_remainder = sorted(wanted, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: groups - sum(counts.values())]:
        counts[name] += 1
    for name in wanted[:groups]:
        if not counts[name]:
            counts[max(wanted, key=lambda other: counts[other])] -= 1
            counts[name] = 1
    return counts


def _deal(counts: Mapping[str, int]) -> Iterator[str]:
    """Names in an order that keeps each near its share at every point: the one furthest behind comes next."""
    total = sum(counts.values())
    dealt: dict[str, int] = dict.fromkeys(counts, 0)
    for position in range(1, total + 1):
        open_names: Sequence[str] = [name for name in counts if dealt[name] < counts[name]]
        # In integers, so that ties are ties: counts * position / total - dealt, times total.
        name = max(open_names, key=lambda each: counts[each] * position - dealt[each] * total)
        dealt[name] += 1
        yield name

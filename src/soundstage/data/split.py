"""Splits are assigned once, right after ingestion, by group: no later step may move a clip, only drop it.

A group is a source video: all spans of one source fall into one split. Near-duplicates of different sources do not
join groups yet; sources with equal bytes are one source already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ..config.slices import SplitSlice
from ..config.tree import SplitConfig
from ..errors import ConfigError, DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import sha256_text
from .records import CLIPS, SPLITS, read_table, write_table

OPEN_CLASS = "open_class_test"
# Who goes first when there are fewer groups than splits.
_PRIORITY = ("pretrain", "test", "validation", "judge")


def run(config: SplitSlice, inputs: Inputs, work: Work) -> Outcome:
    """Fill `group` and `split` of every clip; writes `clips.parquet`.

    Raises:
        ConfigError: an open class that no clip has.
        DataError: nothing is left beside the open classes.
    """
    clips = read_table(work.workspace.output(inputs["ingest"], "clips.parquet"), CLIPS)
    labels: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        labels[clip["source_sha256"]].add(clip["label"])
    splits = assign_splits(labels, config.split)
    rows = [clip | {"group": clip["source_sha256"], "split": splits[clip["source_sha256"]]} for clip in clips]
    assert len(rows) == len(clips)
    write_table(work.out / "clips.parquet", CLIPS, rows, sort_by=["clip_id"])
    counts = {f"split_{name}": sum(row["split"] == name for row in rows) for name in SPLITS}
    return Outcome(counts={"clips": len(rows), "groups": len(splits), **counts})


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

"""Facts about records together, each computed once: who breaks it is listed by name."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..config.tree import ContractsConfig
from ..curation.review import latest_verdicts
from ..stages.files import sha256_file
from ..stages.workspace import Workspace
from .contracts import Fact
from .suites import TRAINING_USES

Row = Mapping[str, Any]
_TAR_BLOCK = 512
_DURATION_SLACK_SEC = 0.5
_EVALUATION_SPLITS = ("validation", "test", "open_class_test")


def types_fact(name: str, table: pa.Table, schema: pa.Schema) -> Fact:
    """Each column of the record called `name` has the type its schema declares."""
    found = {field.name: field.type for field in table.schema}
    wrong = [
        f"{field.name} ({found.get(field.name, 'missing')}, not {field.type})"
        for field in schema
        if found.get(field.name) != field.type
    ]
    return Fact(f"types_of_{name}", f"every column of {name} has its declared type", wrong)


def clips_facts(
    clips: Sequence[Row],
    ingested: Sequence[Row],
    rejects: Sequence[Row],
    counts: Mapping[str, int],
    workspace: Workspace,
    config: ContractsConfig,
) -> list[Fact]:
    """Facts about clips, rejects and the media of clips."""
    sources = {row["source_uri"] for row in ingested} | {row["source_uri"] for row in rejects}
    rejected = {row["source_uri"] for row in rejects} - {row["source_uri"] for row in ingested}
    too_many = len(rejected) > config.max_reject_share * len(sources)
    splits = defaultdict(set)
    for row in clips:
        splits[row["group"]].add(row["split"])
    return [
        Fact(
            "clips_lost_or_added",
            "the split has the clips of the ingestion, all and no others",
            _differ(_ids(ingested), _ids(clips)),
        ),
        Fact(
            "sources_unaccounted",
            f"each of the {counts['sources']} sources is in clips or rejects",
            [f"{counts['sources']} sources, {len(sources)} accounted for"] * (counts["sources"] != len(sources)),
        ),
        Fact(
            "rejected_beyond_limit",
            f"at most {config.max_reject_share:.0%} of sources are rejected (contracts.max_reject_share)",
            sorted(rejected) if too_many else [],
        ),
        Fact(
            "in_two_splits",
            "no group is in two splits",
            [row["clip_id"] for row in clips if len(splits[row["group"]]) > 1],
        ),
        Fact("media_missing", "the media file of every clip exists", _without_media(clips, workspace)),
        Fact(
            "frames_and_duration_disagree",
            f"num_frames at the frame rate is the duration within {_DURATION_SLACK_SEC} s",
            [row["clip_id"] for row in clips if _lasts_otherwise(row)],
        ),
    ]


def signals_facts(clips: Sequence[Row], signals: Sequence[Row]) -> list[Fact]:
    """Facts about signals."""
    offsets = ("av_offset_sec", "av_correlation", "av_confidence")
    return [
        Fact("unscored", "every clip has signals, and nothing else has", _differ(_ids(clips), _ids(signals))),
        Fact(
            "not_a_number",
            "no signal is NaN; what has no meaning is null",
            [r["clip_id"] for r in signals if any(isinstance(v, float) and math.isnan(v) for v in r.values())],
        ),
        Fact(
            "half_an_offset",
            "offset, correlation and confidence are measured together or not at all",
            [r["clip_id"] for r in signals if len({r[name] is None for name in offsets}) > 1],
        ),
    ]


def selection_facts(clips: Sequence[Row], selection: Sequence[Row], reviews: Sequence[Row]) -> list[Fact]:
    """Facts about the selection."""
    by_id = {row["clip_id"]: row for row in clips}
    verdicts = latest_verdicts(reviews)
    kept = {clip_id for clip_id, row in verdicts.items() if row["verdict"] == "keep"}
    used = [row for row in selection if row["use"] != "dropped"]
    groups: dict[str, set[bool]] = defaultdict(set)
    for row in used:
        if row["clip_id"] in by_id:
            groups[by_id[row["clip_id"]]["group"]].add(row["use"] in _EVALUATION_SPLITS)
    leaking = {group for group, sides in groups.items() if len(sides) > 1}
    return [
        Fact(
            "clips_lost_or_unknown",
            "every clip has a row and every row is a known clip",
            _differ(_ids(clips), _ids(selection)),
        ),
        Fact(
            "moved_between_splits",
            "selection only drops: a clip is used in its own split, or by stage two if that is pretrain",
            [row["clip_id"] for row in used if row["use"] not in _uses_of(by_id.get(row["clip_id"]))],
        ),
        Fact(
            "finetune_without_keep",
            "every finetune clip has a keep verdict",
            [row["clip_id"] for row in used if row["use"] == "finetune" and row["clip_id"] not in kept],
        ),
        Fact(
            "dropped_without_reason",
            "a dropped clip has a reason, a used one has none",
            [row["clip_id"] for row in selection if (row["use"] == "dropped") != bool(row["reasons"])],
        ),
        Fact(
            "group_trained_and_tested",
            "no group is used both to train and to validate or test",
            [row["clip_id"] for row in used if by_id.get(row["clip_id"], {}).get("group") in leaking],
        ),
    ]


def shards_facts(selection: Sequence[Row], samples: Sequence[Row], folder: Path) -> list[Fact]:
    """Facts about encoded samples in `folder`, the payload of encode."""
    uses = {row["clip_id"]: row["use"] for row in selection if row["use"] in TRAINING_USES}
    encoded = {row["clip_id"] for row in samples}
    shards = {row["shard"]: row for row in json.loads((folder / "index.json").read_text())["shards"]}
    sizes = {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in shards}
    counts = Counter(row["shard"] for row in samples)
    return [
        Fact(
            "selected_without_samples",
            f"every clip selected for {', '.join(TRAINING_USES)} has samples",
            sorted(set(uses) - encoded),
        ),
        Fact(
            "samples_not_selected",
            "every sample is of a selected clip and has its use: nothing of the test is in the shards",
            sorted({row["clip_id"] for row in samples if uses.get(row["clip_id"]) != row["use"]}),
        ),
        Fact(
            "outside_their_shard",
            "every sample lies on tar blocks inside its shard",
            sorted({row["clip_id"] for row in samples if not _inside(row, sizes)}),
        ),
        Fact("overlapping", "no two samples of a shard overlap", sorted(set(_overlapping(samples)))),
        Fact(
            "shards_not_as_indexed",
            "every shard has the size, hash and number of samples that index.json states",
            [name for name, row in shards.items() if not _as_indexed(folder / name, row, counts[name])],
        ),
    ]


def _ids(rows: Iterable[Row]) -> list[str]:
    return [row["clip_id"] for row in rows]


def _differ(expected: Iterable[str], found: Iterable[str]) -> list[str]:
    """Ids that one side has oftener than the other."""
    a, b = Counter(expected), Counter(found)
    return sorted((a - b) + (b - a))


def _without_media(clips: Sequence[Row], workspace: Workspace) -> list[str]:
    return [row["clip_id"] for row in clips if not workspace.resolve(row["media_uri"]).is_file()]


def _lasts_otherwise(clip: Row) -> bool:
    shown_sec = clip["num_frames"] * clip["fps_den"] / max(clip["fps_num"], 1)
    return bool(abs(shown_sec - clip["duration_us"] / 1e6) > _DURATION_SLACK_SEC)


def _uses_of(clip: Row | None) -> tuple[str, ...]:
    if clip is None or clip["split"] == "judge":
        return ()
    return ("pretrain", "finetune") if clip["split"] == "pretrain" else (clip["split"],)


def _inside(sample: Row, sizes: Mapping[str, int]) -> bool:
    end = sample["offset"] + sample["size"]
    aligned = sample["offset"] % _TAR_BLOCK == 0 and sample["size"] % _TAR_BLOCK == 0
    return bool(sample["offset"] >= 0 and aligned and end <= sizes.get(sample["shard"], 0))


def _overlapping(samples: Sequence[Row]) -> Iterable[str]:
    ordered = sorted(samples, key=lambda row: (row["shard"], row["offset"]))
    for before, after in pairwise(ordered):
        if before["shard"] == after["shard"] and before["offset"] + before["size"] > after["offset"]:
            yield after["clip_id"]


def _as_indexed(path: Path, stated: Row, samples: int) -> bool:
    if not path.is_file() or path.stat().st_size != stated["bytes"] or samples != stated["samples"]:
        return False
    return bool(sha256_file(path) == stated["sha256"])

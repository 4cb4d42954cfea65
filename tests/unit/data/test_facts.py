"""Facts over partitions find what plain Python finds on whole tables, whatever the number of rows in a partition."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from soundstage.config.tree import ContractsConfig
from soundstage.data import facts, suites
from soundstage.data.findings import Fact
from soundstage.data.partitions import Record
from soundstage.data.records import CLIPS, REJECTS, REVIEWS, SELECTION, SHARD_SAMPLES, SIGNALS, SPLITS, USES
from soundstage.data.shard_facts import shards_facts
from soundstage.stages import Workspace
from tests.unit.curation.records import clip_id, clip_row, review_row, signals_row

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
PARTITIONS = pytest.mark.parametrize("rows", [1, 7, 1000], ids=lambda rows: f"partitions of {rows}")
COUNT = 60


class Tables:
    """Records of random rows with many offenders, written once for each size of partitions."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder, self._rows = folder, rows
        draw = np.random.default_rng(5)
        ids = [int(n) for n in draw.integers(0, 50, COUNT)]
        self.clips: Rows = [
            clip_row(n, group=f"group {n % 17}", split=SPLITS[draw.integers(5)], num_frames=int(draw.integers(70, 120)))
            for n in range(COUNT)
        ]
        self.ingested: Rows = [clip_row(n) for n in ids]
        self.rejects: Rows = [
            {"source_uri": f"videos/{n:05d}.mp4", "start_us": n, "duration_us": 0, "reason": "no_audio", "detail": "-"}
            for n in range(40, 70)
        ]
        self.selection: Rows = [
            {
                "clip_id": clip_id(n),
                "use": USES[draw.integers(6)],
                "reasons": "still" if draw.integers(2) else "",
                "weight": 1.0,
                "audio_shift_sec": 0.0,
            }
            for n in [*range(5, COUNT + 5), 7, 7]
        ]
        self.reviews: Rows = [review_row(n, verdict) for n, verdict in enumerate(draw.choice(["keep", "drop"], COUNT))]
        self.signals: Rows = []
        self.samples: Rows = [
            {
                "key": f"{n:032x}",
                "clip_id": clip_id(int(draw.integers(0, 70))),
                "use": USES[draw.integers(3)],
                "caption": "a drum",
                "weight": 1.0,
                "window_start_us": 0,
                "flip": False,
                "shard": f"shards/{draw.integers(3):06d}.tar",
                "offset": 512 * int(draw.integers(0, 40)),
                "size": 512 * int(draw.integers(1, 3)),
                "bucket": "12x32x32",
                "sha256": "0" * 64,
            }
            for n in range(COUNT)
        ]

    def record(self, name: str, schema: pa.Schema) -> Record:
        path = self._folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(getattr(self, name), schema=schema), path, row_group_size=11)
        return Record(path, self._rows)


def _stated(found: Sequence[Fact]) -> dict[str, tuple[int, list[str]]]:
    return {fact.name: (fact.count, fact.examples) for fact in found}


def _wanted(names: Sequence[str]) -> tuple[int, list[str]]:
    assert names, "the law must have something to find"
    return len(names), sorted(set(names))[:10]


def _differ(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Rows of ids that one side has oftener: all of the first record, and those only in the second."""
    left, right = (Counter(row["clip_id"] for row in rows) for rows in (a, b))
    rows = [row["clip_id"] for row in a if left[row["clip_id"]] != right[row["clip_id"]]]
    return rows + [row["clip_id"] for row in b if row["clip_id"] not in left]


@PARTITIONS
def test_clips_facts(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    workspace = Workspace.open(tmp_path / "workspace")
    for row in tables.clips[3:]:
        media = workspace.resolve(row["media_uri"])
        media.parent.mkdir(parents=True, exist_ok=True)
        media.write_bytes(b"media")
    records = (tables.record("clips", CLIPS), tables.record("ingested", CLIPS), tables.record("rejects", REJECTS))
    config = ContractsConfig(max_reject_share=0.2, duration_slack_sec=0.7)
    found = _stated(facts.clips_facts(*records, {"sources": 999}, workspace, config))
    splits = defaultdict(set)
    for row in tables.clips:
        splits[row["group"]].add(row["split"])
    used = {row["source_uri"] for row in tables.ingested}
    refused = {row["source_uri"] for row in tables.rejects}
    assert found["clips_lost_or_added"] == _wanted(_differ(tables.ingested, tables.clips))
    assert found["sources_unaccounted"] == (1, [f"999 sources, {len(used | refused)} accounted for"])
    assert found["rejected_beyond_limit"] == _wanted(sorted(refused - used))
    assert found["in_two_splits"] == _wanted([r["clip_id"] for r in tables.clips if len(splits[r["group"]]) > 1])
    assert found["media_missing"] == _wanted([row["clip_id"] for row in tables.clips[:3]])
    late = [row["clip_id"] for row in tables.clips if abs(row["num_frames"] / 24 - 4.0) > 0.7]
    assert found["frames_and_duration_disagree"] == _wanted(late)


@PARTITIONS
def test_duplicates_stand_for_clips_of_their_group(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    tables.clips = [
        clip_row(n, group=f"g{n // 4}", duplicate_of=clip_id(n - n % 4) if n % 4 == 1 else "") for n in range(16)
    ]
    tables.ingested, tables.rejects = tables.clips, []
    wrong = {3: clip_id(1), 6: clip_id(0), 10: clip_id(99), 15: clip_id(15)}
    tables.clips = [row | {"duplicate_of": wrong.get(n, row["duplicate_of"])} for n, row in enumerate(tables.clips)]
    records = (tables.record("clips", CLIPS), tables.record("ingested", CLIPS), tables.record("rejects", REJECTS))
    found = _stated(facts.clips_facts(*records, {"sources": 16}, Workspace.open(tmp_path / "w"), ContractsConfig()))
    assert found["duplicates_of_nothing"] == _wanted([clip_id(n) for n in wrong])


@PARTITIONS
def test_signals_facts(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    tables.signals = [
        signals_row(n, **({"av_align": float("nan")} if n % 9 == 4 else {"av_offset_sec": None} if n % 7 == 1 else {}))
        for n in range(3, COUNT)
    ]
    found = _stated(facts.signals_facts(tables.record("clips", CLIPS), tables.record("signals", SIGNALS)))
    assert found["unscored"] == _wanted(_differ(tables.clips, tables.signals))
    assert found["not_a_number"] == _wanted([clip_id(n) for n in range(3, COUNT) if n % 9 == 4])
    assert found["half_an_offset"] == _wanted([clip_id(n) for n in range(3, COUNT) if n % 7 == 1 and n % 9 != 4])


@PARTITIONS
def test_selection_facts(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    records = (
        tables.record("clips", CLIPS),
        tables.record("selection", SELECTION),
        tables.record("reviews", REVIEWS),
    )
    found = _stated(facts.selection_facts(*records))
    clips = {row["clip_id"]: row for row in tables.clips}
    kept = {row["clip_id"] for row in tables.reviews if row["verdict"] == "keep"}
    used = [row for row in tables.selection if row["use"] != "dropped"]
    sides = defaultdict(set)
    for row in used:
        if row["clip_id"] in clips:
            sides[clips[row["clip_id"]]["group"]].add(row["use"] in ("validation", "test", "open_class_test"))

    def is_moved(row: Row) -> bool:
        split = clips.get(row["clip_id"], {}).get("split", "judge")
        uses = {"judge": (), "pretrain": ("pretrain", "finetune")}.get(split, (split,))
        return bool(row["use"] not in uses)

    leaking = [r["clip_id"] for r in used if len(sides[clips.get(r["clip_id"], {}).get("group")]) > 1]
    without = [r["clip_id"] for r in tables.selection if (r["use"] == "dropped") != bool(r["reasons"])]
    unseen = [r["clip_id"] for r in used if r["use"] == "finetune" and r["clip_id"] not in kept]
    assert found["clips_lost_or_unknown"] == _wanted(_differ(tables.clips, tables.selection))
    assert found["moved_between_splits"] == _wanted([row["clip_id"] for row in used if is_moved(row)])
    assert found["finetune_without_keep"] == _wanted(unseen)
    assert found["dropped_without_reason"] == _wanted(without)
    assert found["group_trained_and_tested"] == _wanted(leaking)


@PARTITIONS
def test_shards_facts(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    tables.selection = tables.selection[:COUNT]
    (tmp_path / "shards").mkdir()
    stated: Rows = []
    for number in range(3):
        name = f"shards/{number:06d}.tar"
        (tmp_path / name).write_bytes(bytes(512 * 30))
        bucket = "12x32x32" if number else "9x9x9"
        stated.append({"shard": name, "samples": 1, "bytes": 512 * 30, "sha256": "0" * 64, "bucket": bucket})
    index = {"shards": stated, "tables": {"shards/000000.tar": stated[0]}, "buckets": {"12x32x32": {}}}
    (tmp_path / "index.json").write_text(json.dumps(index | {"selection": "1" * 64}))
    records = (tables.record("selection", SELECTION), tables.record("samples", SHARD_SAMPLES))
    found = _stated(shards_facts(*records, tmp_path, "2" * 64))
    uses = {r["clip_id"]: r["use"] for r in tables.selection if r["use"] in suites.TRAINING_USES}
    encoded = {row["clip_id"] for row in tables.samples}
    ordered = sorted(tables.samples, key=lambda row: (row["shard"], row["offset"]))
    overlapping = [
        after["clip_id"]
        for before, after in itertools.pairwise(ordered)
        if before["shard"] == after["shard"] and before["offset"] + before["size"] > after["offset"]
    ]
    assert found["selected_without_samples"] == _wanted([name for name in uses if name not in encoded])
    wrong = [row["clip_id"] for row in tables.samples if uses.get(row["clip_id"]) != row["use"]]
    assert found["samples_not_selected"] == _wanted(wrong)
    outside = [row["clip_id"] for row in tables.samples if row["offset"] + row["size"] > 512 * 30]
    assert found["outside_their_shard"] == _wanted(outside)
    assert found["overlapping"] == _wanted(overlapping)
    assert found["shards_not_as_indexed"] == _wanted([row["shard"] for row in stated])
    assert found["tables_not_as_indexed"] == _wanted(["shards/000000.tar"])
    assert found["shards_of_another_selection"] == (1, [f"{'1' * 16}, not {'2' * 16}"])
    strange = [row["clip_id"] for row in tables.samples if row["shard"] == "shards/000000.tar"]
    assert found["not_of_their_shards_bucket"] == _wanted(strange)


@PARTITIONS
def test_whole_facts(tmp_path: Path, rows: int) -> None:
    tables = Tables(tmp_path, rows)
    tables.signals = [signals_row(n, signal_version=str(1 + n // 40)) for n in [*range(COUNT), 7]]
    suite = suites.signals_suite(ContractsConfig())
    found = _stated(facts.whole_facts(suite, tables.record("signals", SIGNALS), SIGNALS))
    assert found == {
        "types_of_signals": (0, []),
        "rows_of_signals": (0, []),
        "repeated_in_signals": (2, [clip_id(7)]),
        "versions_of_signals": (2, ["signal_version '1'", "signal_version '2'"]),
    }


def test_an_empty_record_has_too_few_rows_unless_it_may_be_empty(tmp_path: Path) -> None:
    tables = Tables(tmp_path, 5)
    tables.selection, tables.rejects = [], []
    selection = facts.whole_facts(
        suites.selection_suite(ContractsConfig()), tables.record("selection", SELECTION), SELECTION
    )
    assert _stated(selection)["rows_of_selection"] == (1, ["0 rows"])
    rejects = facts.whole_facts(suites.rejects_suite(ContractsConfig()), tables.record("rejects", REJECTS), REJECTS)
    assert not any(fact.count for fact in rejects)


def test_a_span_is_rejected_once(tmp_path: Path) -> None:
    tables = Tables(tmp_path, 5)
    tables.rejects.append(tables.rejects[4])
    found = facts.whole_facts(suites.rejects_suite(ContractsConfig()), tables.record("rejects", REJECTS), REJECTS)
    assert _stated(found)["repeated_in_rejects"] == (2, ["videos/00044.mp4"])


def test_promises_about_columns_that_are_not_there_are_left_to_the_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": [1, 1], "use": ["test", "test"]}), tmp_path / "s.parquet")
    found = _stated(
        facts.whole_facts(suites.shards_suite(ContractsConfig()), Record(tmp_path / "s.parquet", 5), SHARD_SAMPLES)
    )
    assert set(found) == {"types_of_shards", "rows_of_shards"}
    count, examples = found["types_of_shards"]
    assert (count, examples[0]) == (11, "bucket (missing, not string)")
    assert "key (int64, not string)" in examples

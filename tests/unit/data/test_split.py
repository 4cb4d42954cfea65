"""Splits keep groups whole, hit their shares, and depend on nothing but groups, labels and seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.config import SoundstageConfig, stage_slice
from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.fingerprint import FINGERPRINT_VERSION, Fingerprint
from soundstage.data.records import CLIPS, DUPLICATES, FINGERPRINTS, SPLITS, read_table, write_table
from soundstage.data.split import assign_splits, quotas, run
from soundstage.errors import ConfigError, DataError
from soundstage.stages import Outcome, Work, Workspace, execute

from .duplicates.makers import cut, random_print, worn


def groups(count: int, labels: int, seed: int = 0) -> dict[str, set[str]]:
    rng = np.random.default_rng(seed)
    return {f"group{i}": {f"label{rng.integers(labels)}"} for i in range(count)}


def config(**values: object) -> SplitConfig:
    return SplitConfig.model_validate({"validation": 0.1, "test": 0.2, **values})


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 41, 528])
@pytest.mark.parametrize("shares", [(0.0, 0.06, 0.17), (0.1, 0.1, 0.2), (0.3, 0.01, 0.6), (0.0, 0.0, 0.0)])
def test_shares_are_met_to_within_one_group_or_its_guarantee(count: int, shares: tuple[float, float, float]) -> None:
    wanted = config(judge=shares[0], validation=shares[1], test=shares[2])
    found = Counter(assign_splits(groups(count, 7), wanted).values())
    assert sum(found.values()) == count
    exact = {"judge": shares[0], "validation": shares[1], "test": shares[2], "pretrain": 1 - sum(shares)}
    positive = [name for name, share in exact.items() if share > 0]
    for name, share in exact.items():
        if count >= 4:
            assert bool(found[name]) == (name in positive)
        # Largest remainder errs by less than one; the guarantee may take one more for each split it serves.
        assert abs(found[name] - share * count) < 1 + len(positive)
    if count >= 100:
        assert all(abs(found[name] - share * count) <= 1 for name, share in exact.items())


def test_shares_hold_within_each_label() -> None:
    labels = groups(600, 6)
    splits = assign_splits(labels, config())
    by_label: dict[str, Counter[str]] = defaultdict(Counter)
    for group, split in splits.items():
        by_label[min(labels[group])][split] += 1
    for counts in by_label.values():
        total = sum(counts.values())
        # Dealing errs by at most one at either end of a label's run.
        assert abs(counts["test"] - 0.2 * total) <= 2
        assert abs(counts["validation"] - 0.1 * total) <= 2


def test_order_does_not_matter_but_the_seed_does() -> None:
    labels = groups(60, 4)
    shuffled = {name: labels[name] for name in np.random.default_rng(1).permutation(list(labels))}
    assert assign_splits(labels, config()) == assign_splits(shuffled, config())
    assert assign_splits(labels, config()) != assign_splits(labels, config(seed=12))


def test_names_do_not_choose_the_split() -> None:
    """Over many seeds each group is tested about as often as the share says (binomial, five sigma)."""
    labels = groups(40, 4)
    tested: Counter[str] = Counter()
    for seed in range(400):
        tested.update(name for name, split in assign_splits(labels, config(seed=seed)).items() if split == "test")
    assert all(abs(tested[name] - 80) < 5 * np.sqrt(400 * 0.2 * 0.8) for name in labels)


def test_open_classes_are_held_out_whole() -> None:
    labels = groups(50, 5)
    labels["mixed"] = {"label0", "label3"}
    splits = assign_splits(labels, config(open_classes=("label3",)))
    assert {name for name, split in splits.items() if split == "open_class_test"} == {
        name for name, found in labels.items() if "label3" in found
    }


def test_unusable_open_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'labl0'.*labels found: label0"):
        assign_splits(groups(5, 1), config(open_classes=("labl0",)))
    with pytest.raises(DataError, match="all 5 groups belong to open classes"):
        assign_splits(groups(5, 1), config(open_classes=("label0",)))


def test_few_groups_go_to_training_first() -> None:
    assert quotas(1, config(judge=0.1)) == {"pretrain": 1, "test": 0, "validation": 0, "judge": 0}
    assert quotas(2, config(judge=0.1)) == {"pretrain": 1, "test": 1, "validation": 0, "judge": 0}
    assert quotas(4, config(judge=0.1)) == {"pretrain": 1, "test": 1, "validation": 1, "judge": 1}


def clip_row(name: str, source: str, label: str, **values: object) -> dict[str, Any]:
    text = {field.name: "x" for field in CLIPS if str(field.type) == "string"}
    numbers = {field.name: 1 for field in CLIPS if str(field.type) == "int64"}
    own = {"clip_id": name, "source_sha256": source, "source_uri": f"{source}.mp4", "label": label}
    return text | numbers | {"group": "", "split": "", "duplicate_of": ""} | own | values


class Stage:
    """The stage over rows and their fingerprints, and what it wrote."""

    def __init__(
        self, root: Path, rows: list[dict[str, Any]], prints: dict[str, Fingerprint] | None, **config: object
    ) -> None:
        workspace = Workspace.open(root)

        def ingest(_: object, __: object, work: Work) -> Outcome:
            write_table(work.out / "clips.parquet", CLIPS, rows, sort_by=["clip_id"])
            if prints is not None:
                stored = [{"clip_id": n, "version": FINGERPRINT_VERSION, **p.to_bytes()} for n, p in prints.items()]
                write_table(work.out / "fingerprints.parquet", FINGERPRINTS, stored, sort_by=["clip_id"])
            return Outcome()

        tree = SoundstageConfig.model_validate({"split": config})
        made = execute("ingest", ingest, stage_slice("ingest", tree), {}, workspace, code_version="1")
        split = execute("split", run, stage_slice("split", tree), {"ingest": made.record}, workspace, code_version="1")
        self.counts = split.record.counts
        self.clips = read_table(workspace.output(split.record, "clips.parquet"), CLIPS)
        self.duplicates = read_table(workspace.output(split.record, "duplicates.parquet"), DUPLICATES)
        self.by_id = {row["clip_id"]: row for row in self.clips}


def strangers(rows: list[dict[str, Any]], seed: int = 0) -> dict[str, Fingerprint]:
    rng = np.random.default_rng(seed)
    return {row["clip_id"]: random_print(rng) for row in rows}


@pytest.mark.parametrize("near_duplicates", [True, False])
def test_the_stage_fills_group_and_split_and_keeps_spans_together(tmp_path: Path, near_duplicates: bool) -> None:
    rows = [
        clip_row(f"{source}-{span}", f"s{source:02d}", f"l{source % 3}") for source in range(20) for span in range(3)
    ]
    stage = Stage(tmp_path, rows, strangers(rows) if near_duplicates else None, near_duplicates=near_duplicates)
    found = stage.clips
    assert len({(row["source_sha256"], row["split"]) for row in found}) == 20
    assert all(row["group"] == row["source_sha256"] for row in found)
    blank = {"group": "", "split": "", "duplicate_of": ""}
    assert [row | blank for row in found] == sorted(rows, key=lambda row: str(row["clip_id"]))
    by_split = Counter(f"split_{row['split']}" for row in found)
    assert by_split == Counter({k: n for k, n in stage.counts.items() if k.startswith("split_")})
    assert {f"split_{name}" for name in SPLITS} <= set(stage.counts)
    of_all = {"clips": 60, "groups": 20, "near_duplicates": 0, "clusters": 0, "largest_group": 3}
    assert of_all.items() <= stage.counts.items()
    assert not stage.duplicates


def copied_corpus() -> tuple[list[dict[str, Any]], dict[str, Fingerprint]]:
    """Thirty sources of two clips; of ten of them a worn copy, half of these trimmed and half of those with a copy."""
    rows = [clip_row(f"{n}-{span}", f"s{n:02d}", f"l{n % 4}", duration_us=9) for n in range(30) for span in range(2)]
    prints = strangers(rows)
    rng = np.random.default_rng(1)
    for n in range(10):
        copied = prints[f"{n}-0"]
        prints[f"c{n}"] = worn(rng, cut(copied, 0.5, 3.2) if n % 2 else copied, 0.08)
        rows.append(clip_row(f"c{n}", f"t{n:02d}", f"l{n % 4}", duration_us=8))
        if n % 4 == 1:
            prints[f"d{n}"] = worn(rng, prints[f"c{n}"], 0.04)
            rows.append(clip_row(f"d{n}", f"r{n:02d}", f"l{n % 4}", duration_us=7))
    return rows, prints


def test_near_duplicates_share_group_and_split_and_name_the_kept_clip(tmp_path: Path) -> None:
    rows, prints = copied_corpus()
    stage = Stage(tmp_path, rows, prints)
    for row in stage.clips:
        name = row["clip_id"]
        original = name if "-" in name else f"{name[1:]}-0"
        assert row["duplicate_of"] == ("" if name == original else original)
        assert (row["group"], row["split"]) == (stage.by_id[original]["group"], stage.by_id[original]["split"])
    # Named by the smallest source: r before s before t.
    assert stage.by_id["1-1"]["group"] == "r01"
    assert stage.by_id["0-1"]["group"] == "s00"
    assert stage.counts["near_duplicates"] == len(stage.duplicates) == 13
    assert stage.counts["clusters"] == 10
    assert stage.counts["groups"] == 30
    assert stage.counts["largest_group"] == 4
    places = {row["clip_id"]: row for row in stage.duplicates}
    assert {name: row["duplicate_of"] for name, row in places.items()} == {
        row["clip_id"]: row["duplicate_of"] for row in stage.clips if row["duplicate_of"]
    }
    assert places["c1"]["offset_sec"] == pytest.approx(0.5, abs=0.021)
    assert places["c1"]["overlap_sec"] == pytest.approx(3.2, abs=0.05)
    assert 0 < places["c1"]["video_bit_error"] < 0.1
    assert 0 < places["c1"]["audio_bit_error"] < 0.15


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    rows, prints = copied_corpus()
    order = np.random.default_rng(5).permutation(len(rows))
    shuffled = [rows[index] for index in order]
    one = Stage(tmp_path / "one", rows, prints)
    other = Stage(tmp_path / "other", shuffled, {row["clip_id"]: prints[row["clip_id"]] for row in shuffled})
    assert (one.clips, one.duplicates, one.counts) == (other.clips, other.duplicates, other.counts)


def test_a_copy_of_an_open_class_is_held_out_with_it(tmp_path: Path) -> None:
    rows, prints = copied_corpus()
    rows = [row | {"label": "open"} if row["clip_id"] == "0-1" else row for row in rows]
    stage = Stage(tmp_path, rows, prints, open_classes=["open"])
    assert {row["clip_id"] for row in stage.clips if row["split"] == "open_class_test"} == {"0-0", "0-1", "c0"}


def test_without_fingerprints_it_says_what_to_do(tmp_path: Path) -> None:
    rows = [clip_row("a", "s", "l")]
    with pytest.raises(DataError, match=r"no fingerprints.parquet.*rerun `soundstage ingest`.*near_duplicates=false"):
        Stage(tmp_path / "none", rows, None)
    with pytest.raises(DataError, match="1 of 1 clips have no fingerprint: a"):
        Stage(tmp_path / "other", rows, {"b": random_print(np.random.default_rng(0))})

"""Splits keep groups whole, hit their shares, and depend on nothing but groups, labels and seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from soundstage.config import SoundstageConfig, stage_slice
from soundstage.config.tree import SplitConfig
from soundstage.data.records import CLIPS, SPLITS, read_table, write_table
from soundstage.data.split import assign_splits, quotas, run
from soundstage.errors import ConfigError, DataError
from soundstage.stages import Outcome, Work, Workspace, execute


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


def test_the_stage_fills_group_and_split_and_keeps_spans_together(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    text = {field.name: "x" for field in CLIPS if str(field.type) == "string"}
    numbers = {field.name: 1 for field in CLIPS if str(field.type) == "int64"}
    blank = text | numbers | {"group": "", "split": "", "duplicate_of": ""}
    rows = [
        blank | {"clip_id": f"{source}-{span}", "source_sha256": f"s{source}", "label": f"l{source % 3}"}
        for source in range(20)
        for span in range(3)
    ]

    def ingest(_: object, __: object, work: Work) -> Outcome:
        write_table(work.out / "clips.parquet", CLIPS, rows, sort_by=["clip_id"])
        return Outcome()

    tree = SoundstageConfig()
    made = execute("ingest", ingest, stage_slice("ingest", tree), {}, workspace, code_version="1")
    split = execute("split", run, stage_slice("split", tree), {"ingest": made.record}, workspace, code_version="1")
    found = read_table(workspace.output(split.record, "clips.parquet"), CLIPS)
    assert len({(row["source_sha256"], row["split"]) for row in found}) == 20
    assert all(row["group"] == row["source_sha256"] for row in found)
    assert [row | {"group": "", "split": "", "duplicate_of": ""} for row in found] == sorted(rows, key=lambda row: str(row["clip_id"]))
    by_split = Counter(f"split_{row['split']}" for row in found)
    assert by_split == Counter({k: n for k, n in split.record.counts.items() if k.startswith("split_")})
    assert {f"split_{name}" for name in SPLITS} <= set(split.record.counts)
    assert split.record.counts["clips"] == 60

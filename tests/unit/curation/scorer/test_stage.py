"""Stages `curator` and `judge` on real tiny clips, through the catalogue: files, counts, adoption and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.catalog import run_stage
from soundstage.config import load_config
from soundstage.config.slices import ScorerSlice, stage_slice
from soundstage.config.tree import JudgeConfig, ScorerConfig
from soundstage.curation.scorer.reference import describe, pretrained_digest, scorer_folder
from soundstage.data.records import CLIPS, SCORER_GROUPS, read_table, write_table
from soundstage.errors import DataError
from soundstage.media.encode import write_video
from soundstage.models.sync import load_scorer
from soundstage.stages import Execution, StageRecord, Workspace
from soundstage.stages.execute import NullObserver, NullTracker
from soundstage.stages.files import sha256_text

from ..makers import FPS, RATE, clicks, irregular, pulses
from ..records import clip_row, put
from .examples_made import config

SECONDS = 2.5
GROUPS = 8
FILES = {"scorer/scorer.safetensors", "scorer/scorer.json", "scorer/README.md", "groups.parquet"}


class Told(NullTracker):
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.losses[step or 0] = metrics["loss"]


class Listening(NullObserver):
    """Gives every stage the tracker that keeps."""

    def __init__(self) -> None:
        self.tracker = Told()

    def started(self, stage: str, config: Any, inputs: Any) -> Told:
        return self.tracker


def settings(kind: type[ScorerConfig] = ScorerConfig, **changes: Any) -> ScorerSlice:
    base = config(fps=FPS, frame_size=16, crop_sec=1.5, batch=4, steps=2, min_clips=2, held_out_share=0.4)
    values = base.model_dump() | changes
    return ScorerSlice(scorer=ScorerConfig(**kind(**values).model_dump()))


def pool() -> list[dict[str, Any]]:
    """Clips to pretrain on, two of them of a class to hold out, one near-duplicate; and three for the judge."""
    rows = []
    for number in range(GROUPS + 3):
        label = "bird" if number in (0, 1) else "drum"
        split = "pretrain" if number < GROUPS else "judge"
        rows.append(clip_row(number, split, label, num_frames=round(SECONDS * FPS), duration_us=round(SECONDS * 1e6)))
    rows.append(rows[4] | {"clip_id": "f" * 64, "duplicate_of": rows[4]["clip_id"]})
    return rows


def split_record(workspace: Workspace, rows: list[dict[str, Any]]) -> StageRecord:
    return put(workspace, "split", {"clips.parquet": lambda p: write_table(p, CLIPS, rows, ["clip_id"])})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("scorers"))
    for number, row in enumerate(pool()[:-1]):
        events = irregular(SECONDS, seed=number)
        colour = np.repeat(pulses(events, SECONDS, size=24, seed=number)[..., None], 3, axis=3)
        write_video(workspace.resolve(row["media_uri"]), colour, FPS, clicks(events, SECONDS, seed=number), RATE)
    return workspace


@pytest.fixture(scope="module")
def clips(workspace: Workspace) -> StageRecord:
    return split_record(workspace, pool())


@pytest.fixture(scope="module")
def listening() -> Listening:
    return Listening()


@pytest.fixture(scope="module")
def trained(workspace: Workspace, clips: StageRecord, listening: Listening) -> Execution:
    slice_ = settings(held_out_classes=("bird",))
    return run_stage("curator", slice_, {"clips": clips}, workspace, observer=listening)


def groups(workspace: Workspace, record: StageRecord) -> list[str]:
    return [row["group"] for row in read_table(workspace.output(record, "groups.parquet"), SCORER_GROUPS)]


def test_every_clip_of_the_split_has_a_role_and_none_is_lost(trained: Execution) -> None:
    counts = trained.record.counts
    assert counts["clips_of_held_out_classes"] == 2
    assert counts["clips_trained_on"] + counts["clips_held_out"] == GROUPS - 2
    assert min(counts.values()) >= 2


def test_the_scorer_is_whole_and_says_whose_it_is(workspace: Workspace, trained: Execution) -> None:
    record = trained.record
    assert set(record.outputs) == FILES
    folder = scorer_folder(record, workspace)
    assert folder is not None
    scorer, about = load_scorer(folder)
    assert (about["role"], about["split"]) == ("curator", "pretrain")
    assert about["fingerprint"] == record.notes["scorer"] == describe(folder)["fingerprint"]
    assert scorer.sample_rate == RATE
    assert about["measured"] == record.metrics
    assert record.metrics["seen_clips"] == record.counts["clips_held_out"]
    assert record.metrics["held_out_clips"] == 2
    assert {name.partition("_auc")[0] for name in record.metrics if "auc" in name} == {"seen", "held_out"}


def test_the_groups_are_those_of_the_clips_it_was_trained_on(workspace: Workspace, trained: Execution) -> None:
    found = groups(workspace, trained.record)
    known = {row["group"]: row for row in pool()[:-1]}
    assert len(found) == len(set(found)) == trained.record.counts["clips_trained_on"]
    assert {known[group]["split"] for group in found} == {"pretrain"}
    assert {known[group]["label"] for group in found} == {"drum"}


def test_every_step_is_reported(trained: Execution, listening: Listening) -> None:
    assert not trained.skipped
    assert list(listening.tracker.losses) == [1, 2]
    assert all(np.isfinite(loss) for loss in listening.tracker.losses.values())


def test_the_same_work_gives_the_same_files_and_is_not_done_twice(
    workspace: Workspace, clips: StageRecord, trained: Execution
) -> None:
    slice_ = settings(held_out_classes=("bird",))
    assert run_stage("curator", slice_, {"clips": clips}, workspace).skipped
    again = run_stage("curator", slice_, {"clips": clips}, workspace, fresh=True)
    assert not again.skipped
    assert again.record.content == trained.record.content


def test_the_judge_learns_on_its_own_split_with_towers_of_its_own(workspace: Workspace, clips: StageRecord) -> None:
    own = {"video_tower": "recurrent", "audio_tower": "transformer", "fps": 6}
    record = run_stage("judge", settings(JudgeConfig, held_out_share=0.0, **own), {"clips": clips}, workspace).record
    assert record.counts["clips_trained_on"] == 3
    splits = {row["group"]: row["split"] for row in pool()}
    assert {splits[group] for group in groups(workspace, record)} == {"judge"}
    assert record.metrics == {}, "nothing was held out, so nothing was measured"
    folder = scorer_folder(record, workspace)
    assert folder is not None
    assert load_scorer(folder)[0].config.video_tower == "recurrent"


def test_the_two_roles_differ_by_default_in_towers_seed_and_split() -> None:
    tree = load_config("tiny")
    curator, judge = (stage_slice(role, tree).scorer for role in ("curator", "judge"))  # type: ignore[attr-defined]
    for name in ("seed", "video_tower", "audio_tower"):
        assert getattr(curator, name) != getattr(judge, name)
    assert judge.fps == tree.window.fps


def test_with_too_few_clips_there_is_no_scorer_and_a_note(workspace: Workspace, clips: StageRecord) -> None:
    record = run_stage("judge", settings(min_clips=9), {"clips": clips}, workspace).record
    assert record.outputs == {}
    assert record.metrics == {}
    assert "judge.min_clips=9 are needed" in record.notes["scorer"]
    assert f"{record.counts['clips_trained_on']} clips of split judge can be trained on" in record.notes["scorer"]
    assert scorer_folder(record, workspace) is None


def test_clips_of_two_sample_rates_are_refused(workspace: Workspace) -> None:
    rows = pool()
    rows[2] |= {"sample_rate": 8000}
    with pytest.raises(DataError, match=r"curator: clips have sound at 8000, 16000 Hz"):
        run_stage("curator", settings(), {"clips": split_record(workspace, rows)}, workspace)


@pytest.fixture
def saved(workspace: Workspace, trained: Execution, tmp_path: Path) -> Path:
    """The curator as somebody else has it: folder `scorer` with its list of groups beside it."""
    shutil.copytree(workspace.resolve(trained.record.payload), tmp_path / "from elsewhere")
    return tmp_path / "from elsewhere" / "scorer"


def test_a_saved_scorer_is_taken_as_it_is(
    workspace: Workspace, clips: StageRecord, trained: Execution, saved: Path
) -> None:
    record = run_stage("curator", settings(pretrained=str(saved)), {"clips": clips}, workspace).record
    assert record.outputs == trained.record.outputs
    assert record.metrics == trained.record.metrics
    assert record.notes == {"scorer": trained.record.notes["scorer"], "origin": "pretrained"}


def test_another_content_of_the_folder_is_taken_over_anew(
    workspace: Workspace, clips: StageRecord, saved: Path
) -> None:
    slice_ = settings(pretrained=str(saved))
    (saved.parent / "groups.parquet").rename(saved.parent / "aside")
    without = run_stage("judge", slice_, {"clips": clips}, workspace)
    assert "groups.parquet" not in without.record.outputs
    digests = [pretrained_digest(slice_, workspace)]
    # What the evaluation asks for when the list is missing: copy it too.
    (saved.parent / "aside").rename(saved.parent / "groups.parquet")
    added = run_stage("judge", slice_, {"clips": clips}, workspace)
    assert not added.skipped
    assert "groups.parquet" in added.record.outputs
    digests.append(pretrained_digest(slice_, workspace))
    about = json.loads((saved / "scorer.json").read_text())
    (saved / "scorer.json").write_text(json.dumps(about | {"measured": {}}))
    digests.append(pretrained_digest(slice_, workspace))
    assert len(set(digests)) == 3
    assert run_stage("judge", slice_, {"clips": clips}, workspace).record.metrics == {}


def test_what_is_trained_here_has_no_digest_of_a_saved_one(workspace: Workspace) -> None:
    assert pretrained_digest(settings(), workspace) == ""


def test_a_folder_that_holds_no_scorer_is_refused_before_work(
    workspace: Workspace, clips: StageRecord, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"is no description of a sync scorer.*give the folder `scorer`"):
        run_stage("curator", settings(pretrained=str(tmp_path)), {"clips": clips}, workspace)


def test_exchanged_weights_are_refused(workspace: Workspace, clips: StageRecord, saved: Path) -> None:
    (saved / "scorer.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match="weights and configuration have fingerprint"):
        run_stage("curator", settings(pretrained=str(saved)), {"clips": clips}, workspace)


def test_a_scorer_of_another_role_is_taken_with_a_warning(
    workspace: Workspace, clips: StageRecord, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_stage("judge", settings(pretrained=str(saved), seed=5), {"clips": clips}, workspace)
    assert "holds a scorer of role 'curator'" in caplog.text


def test_a_clip_that_is_gone_is_named(workspace: Workspace) -> None:
    rows = pool()[:-1]
    missing = clip_row(77, num_frames=60, duration_us=2_500_000, group=sha256_text("gone"))
    with pytest.raises(DataError, match=f"clip {missing['clip_id']} cannot be learned from"):
        run_stage(
            "curator", settings(held_out_share=0.0), {"clips": split_record(workspace, [*rows, missing])}, workspace
        )

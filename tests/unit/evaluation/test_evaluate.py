"""Stage `evaluate` over a tiny model and real clips: every arm, every clip, every number accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from soundstage.config import Config, load_config, stage_slice
from soundstage.data.records import CLIPS, SELECTION, write_table
from soundstage.evaluation import evaluate
from soundstage.evaluation.metrics.motion import motion_correlation
from soundstage.evaluation.protocol import ARMS, load_windows
from soundstage.media.encode import write_video
from soundstage.models.animate import Animator
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.load import new_backbone
from soundstage.models.backbones.stand_in import save_stand_in
from soundstage.models.bundle import new_adapters, save_adapter
from soundstage.stages import Execution, Inputs, Outcome, StageRecord, Work, Workspace, execute

from ..models.makers import make_heard

FPS, RATE, FRAMES = 24, 16000, 48
CONDITIONS = [arm.name for arm in ARMS]


class Nothing(Config):
    pass


def config(*overrides: str) -> Any:
    return stage_slice("evaluate", load_config("micro", overrides=["evaluate.bootstrap_samples=100", *overrides]))


def write_clip(workspace: Workspace, number: int, moves: bool) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    frames = np.zeros((FRAMES, 32, 32, 3), np.uint8) + rng.integers(40, 90, 3, dtype=np.uint8)
    if moves:
        frames[18 + 2 * number : 30, 8:24, 8:24] = 220
    uri, sound = f"media/clip{number}.mp4", rng.normal(scale=0.1, size=FRAMES * RATE // FPS).astype(np.float32)
    write_video(workspace.resolve(uri), frames, FPS, sound, RATE)
    texts: dict[str, Any] = dict.fromkeys(CLIPS.names, "x")
    numbers = {"start_us": 0, "duration_us": 2_000_000, "fps_num": FPS, "fps_den": 1, "num_frames": FRAMES}
    numbers |= {"width": 32, "height": 32, "sample_rate": RATE, "channels": 1}
    label = ("lamp", "bird")[number % 2]
    return texts | numbers | {"clip_id": f"{number:x}" * 64, "media_uri": uri, "caption": f"a {label}", "label": label}


def made(workspace: Workspace, stage: str, write: Any, notes: dict[str, str] | None = None) -> StageRecord:
    def run(_config: Nothing, _inputs: Inputs, work: Work) -> Outcome:
        write(work.out)
        return Outcome(notes=notes or {})

    return execute(stage, run, Nothing(), {}, workspace, code_version="v", cacheable=False).record


def inputs_with(workspace: Workspace, uses: dict[int, str], still: int = -1, skipped: bool = False) -> Inputs:
    clips = [write_clip(workspace, number, moves=number != still) for number in uses]
    chosen = [
        {"clip_id": clip["clip_id"], "use": use, "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
        for clip, use in zip(clips, uses.values(), strict=True)
    ]
    slice_ = config()
    model = slice_.model.model_copy(update={"adapter": slice_.model.adapter.model_copy(update={"max_share": 1.0})})
    backbone = new_backbone(model.backbone, 0)

    def save(seed: int) -> Any:
        adapters = new_adapters(backbone, feature_grids(model.audio), model)
        make_heard(adapters, seed)
        return lambda out: save_adapter(out / "adapter", adapters, backbone, model, slice_.window, "stage")

    notes = {"stage_two": "skipped: nobody kept anything"} if skipped else {}
    return {
        "clips": made(workspace, "split", lambda out: write_table(out / "clips.parquet", CLIPS, clips, ["clip_id"])),
        "selection": made(
            workspace, "select", lambda out: write_table(out / "selection.parquet", SELECTION, chosen, ["clip_id"])
        ),
        "judge": made(workspace, "judge", lambda out: None, {"scorer": "none trained: too few clips"}),
        "backbone": made(workspace, "backbone", lambda out: save_stand_in(backbone, out / "backbone")),
        "pretrain": made(workspace, "pretrain", save(1)),
        "finetune": made(workspace, "finetune", save(2), notes),
    }


def run(workspace: Workspace, inputs: Inputs, *overrides: str) -> Execution:
    return execute("evaluate", evaluate.run, config(*overrides), inputs, workspace, code_version="v", cacheable=False)


def read(workspace: Workspace, done: Execution) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    result = json.loads(workspace.output(done.record, "evaluation.json").read_text())
    return result, pq.read_table(workspace.output(done.record, "scores.parquet")).to_pylist()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("evaluate") / "workspace")


@pytest.fixture(scope="module")
def inputs(workspace: Workspace) -> Inputs:
    """Four clips of the test split, one of them still, and one that trains."""
    return inputs_with(workspace, {0: "test", 1: "test", 2: "test", 3: "pretrain", 4: "test"}, still=2)


@pytest.fixture(scope="module")
def done(workspace: Workspace, inputs: Inputs) -> Execution:
    return run(workspace, inputs)


def test_every_condition_scores_every_test_clip(workspace: Workspace, done: Execution) -> None:
    result, scores = read(workspace, done)
    test_clips = {f"{number:x}" * 64 for number in (0, 1, 2, 4)}
    assert {(row["clip_id"], row["condition"]) for row in scores} == {(c, n) for c in test_clips for n in CONDITIONS}
    assert (result["clips"], result["without_motion"]) == (3, 1)
    assert done.record.counts == {"clips": 4, "without_motion": 1}
    assert {row["clip_id"] for row in scores if row["motion_corr"] is None} == {"2" * 64}


def test_means_intervals_and_classes_follow_from_the_scores(workspace: Workspace, done: Execution) -> None:
    result, scores = read(workspace, done)

    def values(condition: str, label: str = "") -> list[float]:
        return [
            row["motion_corr"]
            for row in scores
            if row["condition"] == condition
            and row["motion_corr"] is not None
            and row["label"] in (label or row["label"])
        ]

    for name in CONDITIONS:
        entry = result["metrics"]["motion_corr"][name]
        assert entry["mean"] == pytest.approx(np.mean(values(name)))
        assert entry["low"] <= entry["mean"] <= entry["high"]
        assert entry["n"] == 3
    pair = result["paired"]["stage_two_minus_stage_one"]
    assert pair["mean"] == pytest.approx(np.mean(values("true")) - np.mean(values("stage_one")))
    assert result["per_class"]["lamp"]["mean"] == pytest.approx(np.mean(values("true", "lamp")))
    assert {label: entry["n"] for label, entry in result["per_class"].items()} == {"lamp": 2, "bird": 1}
    assert done.record.metrics["motion_corr_true"] == pytest.approx(np.mean(values("true")))


def test_a_score_is_that_of_the_video_the_model_makes(workspace: Workspace, inputs: Inputs, done: Execution) -> None:
    slice_ = config()
    folders = {name: workspace.resolve(inputs[name].payload) for name in ("backbone", "finetune")}
    animator = Animator.load(folders["backbone"] / "backbone", folders["finetune"] / "adapter")
    clip = write_clip(workspace, 1, moves=True)
    (window,) = load_windows(slice_, workspace, [clip], {clip["clip_id"]: 0.0})
    _, scores = read(workspace, done)
    (found,) = [
        row["motion_corr"] for row in scores if row["clip_id"] == clip["clip_id"] and row["condition"] == "true"
    ]
    video = animator.animate_batch(
        window.frames[:1],
        window.sound[None],
        [window.caption],
        seeds=[1],  # its place among the test clips
        num_inference_steps=slice_.evaluate.num_inference_steps,
        guidance=evaluate.Guidance(),
    )[0]
    # Another batch size may move a pixel by one level.
    assert found == pytest.approx(motion_correlation(video, window.frames), abs=0.02)


def test_samples_are_kept_for_people(workspace: Workspace, done: Execution) -> None:
    index = json.loads(workspace.output(done.record, "samples/index.json").read_text())
    assert [entry["clip_id"] for entry in index] == ["0" * 64, "1" * 64]
    for entry in index:
        assert set(entry["videos"]) == {*CONDITIONS, "truth"}
        assert all(f"samples/{video}" in done.record.outputs for video in entry["videos"].values())
        assert f"samples/{entry['strip']}" in done.record.outputs


def test_a_seed_gives_the_same_numbers_and_another_gives_others(
    workspace: Workspace, inputs: Inputs, done: Execution
) -> None:
    few = ["evaluate.clips=2", "evaluate.samples_shown=0"]
    first, again = (read(workspace, run(workspace, inputs, *few))[1] for _ in range(2))
    assert first == again
    other = read(workspace, run(workspace, inputs, *few, "evaluate.seed=1"))[1]
    assert first != other


def test_a_skipped_stage_two_is_not_compared_with_itself(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    inputs = inputs_with(workspace, {0: "test", 1: "test"}, skipped=True)
    result, scores = read(workspace, run(workspace, inputs))
    assert "stage_one" not in {row["condition"] for row in scores}
    assert result["metrics"]["motion_corr"]["stage_one"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert result["paired"] == {}


def test_a_single_clip_is_not_called_swapped_with_its_own_sound(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    result, scores = read(workspace, run(workspace, inputs_with(workspace, {0: "test"})))
    assert {row["condition"] for row in scores} == set(CONDITIONS) - {"swapped"}
    assert result["metrics"]["motion_corr"]["swapped"]["n"] == 0


def test_without_a_test_clip_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    done = run(workspace, inputs_with(workspace, {0: "pretrain"}))
    result, scores = read(workspace, done)
    assert scores == []
    assert all(entry["mean"] is None for entry in result["metrics"]["motion_corr"].values())
    assert "nothing was measured" in done.record.notes["evaluation"]

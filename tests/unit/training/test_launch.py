"""The one trainer through the real launcher and DeepSpeed engine: few launches, each asked several questions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from soundstage.errors import TrainingError
from soundstage.stages import NullTracker
from soundstage.training.checkpoints import newest
from soundstage.training.feed import Feed
from soundstage.training.follow import run_job
from soundstage.training.job import TrainingJob
from soundstage.training.metrics import read_metrics

from .makers import all_close, job_in, reader_of, train_slice, write_backbone, write_shards

STEPS, SAMPLES, GLOBAL_BATCH = 40, 22, 4
OVERRIDES = [
    *(f"pretrain.steps={STEPS}", f"pretrain.global_batch={GLOBAL_BATCH}", "pretrain.checkpoint_every=2"),
    *("pretrain.validate_every=20", "pretrain.learning_rate=0.003", "launcher.threads=1", "pretrain.ema_decay=0.8"),
]


@dataclass(frozen=True)
class Ground:
    """What all jobs share."""

    root: Path
    shards: Path
    backbone: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    root = tmp_path_factory.mktemp("launch")
    write_shards(root / "shards", train_slice(*OVERRIDES), SAMPLES)
    write_backbone(root / "backbone", train_slice(*OVERRIDES))
    return Ground(root, root / "shards", root / "backbone")


@pytest.fixture(scope="module")
def straight(ground: Ground) -> TrainingJob:
    """A run of all steps on one rank, undisturbed."""
    job = job_in(ground.root / "straight", train_slice(*OVERRIDES), ground.shards, ground.backbone)
    run_job(job, NullTracker())
    return job


def curve(job: TrainingJob) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = json.loads((job.out / "curves.json").read_text())
    return found


def adapter(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(job.out / "adapter" / "adapter.safetensors")


ASK = """
import sys
from pathlib import Path
from soundstage.stages import NullTracker
from soundstage.training.checkpoints import newest
from soundstage.training.follow import run_job
from soundstage.training.job import TrainingJob

run_job(TrainingJob.load(Path(sys.argv[1])), NullTracker())
"""


def kill_after(job: TrainingJob, step: int, limit_sec: float = 240.0) -> None:
    """Have a process run the job and kill that process alone, once `step` steps are done; all others follow it."""
    asked = job.scratch.parent / "asked.json"
    job.save(asked)
    process = subprocess.Popen([sys.executable, "-c", ASK, str(asked)])
    try:
        deadline = time.monotonic() + limit_sec
        while not any(line["step"] >= step for line in read_metrics(job.metrics)):
            assert process.poll() is None, (job.scratch / "log.txt").read_text()[-3000:]
            assert time.monotonic() < deadline, "the job did not get going"
            time.sleep(0.01)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2, "torchrun and its rank were expected"
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, "a trainer was left behind"


def test_a_killed_run_resumes_to_the_same_bits(ground: Ground, straight: TrainingJob) -> None:
    job = job_in(ground.root / "killed", train_slice(*OVERRIDES), ground.shards, ground.backbone)
    kill_after(job, step=7)
    checkpoint = (job.checkpoints / "latest").read_text().strip()
    done = int(checkpoint.removeprefix("step"))
    assert 6 <= done < STEPS, "the run ended before it could be killed"
    assert not (job.out / "adapter").exists()
    _only_adapters_are_kept(job.checkpoints / checkpoint, adapter(straight))

    run_job(job, NullTracker())
    assert curve(job) == curve(straight)
    resumed, wanted = adapter(job), adapter(straight)
    assert resumed.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in resumed.items())
    kept = [path.name for path in job.checkpoints.glob("step*")]
    assert len(kept) <= job.config.train.keep_checkpoints


def _only_adapters_are_kept(folder: Path, trained: dict[str, torch.Tensor]) -> None:
    state = torch.load(folder / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    assert {name.removeprefix("model.adapters.") for name in state} == set(trained)


def test_training_learns_and_accounts_for_its_steps(straight: TrainingJob) -> None:
    losses = curve(straight)
    assert [step for step, _ in losses["train"]] == list(range(1, STEPS + 1))
    assert [step for step, _ in losses["validation"]] == [20, 40]
    values = [loss for _, loss in losses["train"]]
    assert sum(values[-15:]) < 0.98 * sum(values[:15])
    lines = [line for line in read_metrics(straight.metrics) if "loss" in line]
    assert all(0 <= line["data_wait_share"] <= 1 and line["samples_per_sec"] > 0 for line in lines)
    about = json.loads((straight.out / "adapter" / "adapter.json").read_text())
    assert about["trainable_share"] <= 0.019


def same_within_rounding(job: TrainingJob, straight: TrainingJob) -> None:
    # The same gradients are summed in another order: roundings of 1e-7 that Adam's division by small second moments
    # may enlarge a thousandfold.
    for name in ("train", "validation"):
        for (step, found), (wanted_step, wanted) in zip(curve(job)[name], curve(straight)[name], strict=True):
            assert step == wanted_step
            assert found == pytest.approx(wanted, rel=1e-3)
    assert all_close(adapter(job), adapter(straight), atol=5e-3)


TWO_RANKS = [*OVERRIDES, "launcher.ranks=2", "pretrain.micro_batch=1", "pretrain.zero_stage=2"]


@pytest.fixture(scope="module")
def two_ranks(ground: Ground) -> TrainingJob:
    """A run of all steps on two ranks at ZeRO stage 2, two micro batches each, undisturbed."""
    job = job_in(ground.root / "ranks", train_slice(*TWO_RANKS), ground.shards, ground.backbone)
    run_job(job, NullTracker())
    return job


def test_two_ranks_follow_the_curve_of_one(two_ranks: TrainingJob, straight: TrainingJob) -> None:
    same_within_rounding(two_ranks, straight)


def test_partitioned_weights_and_checkpointed_activations_follow_the_same_curve(
    ground: Ground, straight: TrainingJob
) -> None:
    ways = ["pretrain.zero_stage=3", "pretrain.activation_checkpointing=true", "pretrain.micro_batch=2"]
    job = job_in(ground.root / "ways", train_slice(*OVERRIDES, *ways), ground.shards, ground.backbone)
    run_job(job, NullTracker())
    same_within_rounding(job, straight)


def test_a_rank_that_is_asked_to_stop_stops_all_and_the_run_goes_on_to_the_same_bits(
    ground: Ground, two_ranks: TrainingJob
) -> None:
    job = job_in(ground.root / "asked", train_slice(*TWO_RANKS), ground.shards, ground.backbone)
    asked = job.scratch.parent / "asked.json"
    job.save(asked)
    process = subprocess.Popen([sys.executable, "-c", ASK, str(asked)], stderr=subprocess.PIPE, text=True)
    while not any(line["step"] >= 5 for line in read_metrics(job.metrics)):
        assert process.poll() is None, (job.scratch / "log.txt").read_text()[-3000:]
        time.sleep(0.01)
    rank = json.loads((job.scratch / "heartbeats" / "rank0001.json").read_text())
    psutil.Process(rank["pid"]).terminate()
    _, said = process.communicate(timeout=120)
    assert "TrainingStopped" in said
    mark = json.loads((job.scratch / "stopped.json").read_text())
    kept = newest(job.checkpoints)
    assert kept is not None
    assert mark == {"step": kept.steps, "resumable": True}
    assert 5 <= kept.steps < STEPS
    assert max(line["step"] for line in read_metrics(job.metrics)) == kept.steps
    assert list(job.out.iterdir()) == []

    run_job(job, NullTracker())
    assert curve(job) == curve(two_ranks)
    assert all(torch.equal(tensor, adapter(two_ranks)[name]) for name, tensor in adapter(job).items())


def test_training_ends_early_with_its_best_weights_and_shows_samples(ground: Ground) -> None:
    chosen = ["pretrain.learning_rate=0.5", "pretrain.early_stop=2", "pretrain.validate_every=2"]
    shown = ["pretrain.sample_every=4", "pretrain.samples=2", "pretrain.sample_steps=2"]
    config = train_slice(*OVERRIDES, *chosen, *shown)
    job = job_in(ground.root / "early", config, ground.shards, ground.backbone)
    run_job(job, NullTracker())
    losses = [loss for _, loss in curve(job)["validation"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 2 < STEPS // 2
    kept = load_file(job.scratch / "best.safetensors")
    assert {name.removeprefix("model.adapters.") for name in kept} == set(adapter(job))
    assert all(torch.equal(kept[f"model.adapters.{name}"], tensor) for name, tensor in adapter(job).items())
    made = sorted(path.name for path in (job.scratch / "previews").iterdir())
    assert len(made) == 2 * (len(losses) * 2 // 4)
    with av.open(str(job.scratch / "previews" / made[0])) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    height, width, _ = pictures[0].shape
    assert (len(pictures), width) == (config.window.num_frames, 2 * height)
    # Truth stands left: at first its right half is at latent -0.5, a quarter of white.
    assert np.abs(pictures[0][:, height // 2 + 2 : height - 2].astype(float) - 64).mean() < 3


def test_a_loss_that_is_not_finite_stops_all_ranks_and_names_the_clips(ground: Ground, straight: TrainingJob) -> None:
    overrides = [*OVERRIDES, "launcher.ranks=2", "pretrain.checkpoint_every=1", "pretrain.keep_checkpoints=9"]
    config = train_slice(*overrides)
    # The one sample whose turn comes last in the first epoch is poisoned.
    order = Feed(reader_of(ground.shards, config), config.train)
    last = order.sample_at(SAMPLES - 1)
    step, place = divmod(SAMPLES - 1, GLOBAL_BATCH)
    write_shards(ground.root / "poisoned", config, SAMPLES, poisoned=last)
    job = job_in(ground.root / "stopped", config, ground.root / "poisoned", ground.backbone)
    with pytest.raises(TrainingError) as caught:
        run_job(job, NullTracker())
    message = str(caught.value)
    assert f"loss is nan at step {step}; the optimizer was not moved" in message
    half = GLOBAL_BATCH // 2
    sharing = [order.sample_at(step * GLOBAL_BATCH + place // half * half + n) for n in range(half)]
    assert ", ".join(f"clip{n:02d}" for n in sharing) in message
    assert f"pretrain ended with exit code 1 after step {step}" in message
    assert str(job.scratch / "log.txt") in message
    # What was done before stays: the curve up to there, and a checkpoint of the last good step.
    found = [line["loss"] for line in read_metrics(job.metrics) if "loss" in line]
    assert found == pytest.approx([loss for _, loss in curve(straight)["train"]][:step], rel=1e-3)
    assert (job.checkpoints / "latest").read_text().strip() == f"step{step:08d}"
    assert list(job.out.iterdir()) == []


def test_a_worker_that_refuses_is_quoted(ground: Ground) -> None:
    config = train_slice(*OVERRIDES, "pretrain.micro_batch=3")
    job = job_in(ground.root / "refused", config, ground.shards, ground.backbone)
    with pytest.raises(TrainingError, match=r"ConfigError: global_batch=4 does not divide .*micro batches of 3"):
        run_job(job, NullTracker())

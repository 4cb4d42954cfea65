"""Whether a training run that is killed at any moment loses more than a checkpoint's interval, or corrupts one.

Trains the adapters of a preset over its own shards once undisturbed, then again under SIGKILL: each trial starts the
job, kills every one of its processes at a random moment, opens the newest checkpoint and compares it with what had been
done. At the end the killed run is let through, and its weights must equal the undisturbed one's to the bit.

    python benchmarks/kill_trials.py --workspace DIR [--preset micro] [--trials 20] [--ranks 2] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from environment import describe_environment
from safetensors.torch import load_file
from training_jobs import prepared

from soundstage.stages import Workspace
from soundstage.stages.files import write_json
from soundstage.training.checkpoints import newest
from soundstage.training.job import TrainingJob
from soundstage.training.metrics import read_metrics

ASK = """
import sys
from pathlib import Path
from soundstage.stages import NullTracker
from soundstage.training.follow import run_job
from soundstage.training.job import TrainingJob

run_job(TrainingJob.load(Path(sys.argv[1])), NullTracker())
"""


@dataclass(frozen=True)
class Trial:
    """One kill."""

    after_sec: float
    """from the start of the job's processes"""
    step_before: int
    """of the newest checkpoint when the trial began"""
    step_done: int
    """last step that the metrics file tells of"""
    step_kept: int
    """of the newest checkpoint after the kill"""
    saving: bool
    """whether a checkpoint was half written or half deleted at that moment"""

    @property
    def lost(self) -> int:
        """Steps to be done again."""
        return self.step_done - self.step_kept


def start(job: TrainingJob) -> subprocess.Popen[bytes]:
    """A process that runs the job to its end."""
    file = job.scratch.parent / "asked.json"
    job.save(file)
    return subprocess.Popen([sys.executable, "-c", ASK, str(file)])


def killed(job: TrainingJob, after_sec: float) -> Trial | None:
    """Start the job, kill all its processes `after_sec` after they began to train; None when it ended before."""
    before = newest(job.checkpoints)
    step_before = before.steps if before else 0
    process = start(job)
    began = None
    while process.poll() is None:
        lines = read_metrics(job.metrics)
        if began is None and lines and lines[-1]["step"] > step_before:
            began = time.monotonic()
        if began is not None and time.monotonic() - began >= after_sec:
            break
        time.sleep(0.002)
    else:
        return None
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in family:
        each.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, timeout=60)
    half = list(job.checkpoints.glob(".*"))
    kept = newest(job.checkpoints)
    if kept is not None:
        opened(kept.folder)
    done = max((int(line["step"]) for line in read_metrics(job.metrics)), default=0)
    return Trial(after_sec, step_before, done, kept.steps if kept else 0, bool(half))


def opened(folder: Path) -> None:
    """Read every file of a checkpoint whole."""
    for path in folder.glob("*.pt"):
        torch.load(path, weights_only=False, map_location="cpu")
    for path in folder.glob("*.safetensors"):
        load_file(path)


def same(one: TrainingJob, other: TrainingJob) -> bool:
    """Whether two jobs ended with the same weights and curves, to the bit."""
    weights = [load_file(job.out / "adapter" / "adapter.safetensors") for job in (one, other)]
    curves = [(job.out / "curves.json").read_bytes() for job in (one, other)]
    return curves[0] == curves[1] and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def main() -> int:
    """Run the trials; returns 1 when one of them lost too much or the weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder, or one of an earlier run")
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--zero", type=int, default=2)
    parser.add_argument("--every", type=int, default=2, help="steps between checkpoints")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    root = workspace.root / f"kill-trials-{options.seed}"
    overrides = [
        *(f"launcher.ranks={options.ranks}", "launcher.threads=1", f"pretrain.zero_stage={options.zero}"),
        *(f"pretrain.steps={options.steps}", f"pretrain.checkpoint_every={options.every}"),
        *("pretrain.micro_batch=1", "pretrain.ema_decay=0.9", "pretrain.validate_every=50"),
    ]
    straight = prepared(workspace, options.preset, overrides, root / "straight")
    assert start(straight).wait() == 0
    job = prepared(workspace, options.preset, overrides, root / "killed")
    chance = random.Random(options.seed)
    trials: list[Trial] = []
    while len(trials) < options.trials:
        trial = killed(job, chance.uniform(0.0, 1.2))
        if trial is None:
            print(f"the run ended before {options.trials} trials; raise --steps", flush=True)
            return 1
        trials.append(trial)
        print(f"trial {len(trials)}: {trial}, lost {trial.lost}", flush=True)
    assert start(job).wait() == 0
    result = summary(options, trials, same(straight, job))
    print(json.dumps({key: value for key, value in result.items() if key != "trials"}, indent=2))
    if options.out:
        write_json(options.out, result)
    return 0 if result["equal_to_undisturbed"] and result["most_lost"] <= options.every else 1


def summary(options: argparse.Namespace, trials: list[Trial], equal: bool) -> dict[str, Any]:
    """What came of all trials."""
    asked = {key: value for key, value in vars(options).items() if key not in ("workspace", "out")}
    return {
        "asked": asked,
        "environment": describe_environment(),
        "kills": len(trials),
        "kills_while_saving_or_deleting": sum(trial.saving for trial in trials),
        "most_lost": max(trial.lost for trial in trials),
        "equal_to_undisturbed": equal,
        "trials": [vars(trial) | {"lost": trial.lost} for trial in trials],
    }


if __name__ == "__main__":
    sys.exit(main())

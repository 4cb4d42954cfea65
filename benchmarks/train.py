"""What the trainer costs beside a bare PyTorch loop over the same model, and how long it waits for data.

One process, one rank, ZeRO stage 0. Rounds alternate between the trainer's own step (DeepSpeed, checks, metrics, signs
of life) and the loop that everybody would write first: forward, backward, clip, AdamW. Both read the same feed; models
are equal, and their losses must be.

    python benchmarks/train.py --workspace DIR [--preset tiny] [--rounds 7] [--steps 4] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from environment import describe_environment
from training_jobs import prepared

from soundstage.data.shards import NULL_CAPTION, ShardReader
from soundstage.models.backbones.base import TextEmbedding
from soundstage.models.backbones.load import encoder_fingerprints
from soundstage.stages import Workspace
from soundstage.stages.files import write_json
from soundstage.training.engine import Engine, learning_rate
from soundstage.training.feed import Batch, Feed, accumulation
from soundstage.training.job import TrainingJob
from soundstage.training.metrics import MetricsWriter, read_metrics
from soundstage.training.objective import DenoisingObjective
from soundstage.training.trainer import Clock, Run, build

Steps = Iterator[tuple[int, list[Batch]]]


def objective_of(job: TrainingJob, reader: ShardReader) -> tuple[Any, DenoisingObjective]:
    """Backbone and objective as the trainer builds them."""
    torch.manual_seed(job.config.train.seed)
    backbone, model = build(job, reader)
    return backbone, DenoisingObjective(backbone, model, job.config.model, job.config.window, job.config.train)


class Bare:
    """The loop without a trainer."""

    def __init__(self, job: TrainingJob, objective: DenoisingObjective, steps: Steps) -> None:
        self._config, self._objective, self._steps = job.config.train, objective, steps
        self._parameters = [each for each in objective.parameters() if each.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=self._config.learning_rate, weight_decay=self._config.weight_decay
        )
        self.losses: list[float] = []

    def __call__(self) -> None:
        """One step."""
        step, batches = next(self._steps)
        self._optimizer.param_groups[0]["lr"] = learning_rate(self._config, step)
        self._optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            loss = self._objective(batch) / len(batches)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip)
        self._optimizer.step()
        self.losses.append(total)


class Ours:
    """The trainer's own step."""

    def __init__(self, run: Run, steps: Steps, metrics: MetricsWriter) -> None:
        self._run, self._steps, self._metrics = run, steps, metrics
        self._clock = Clock(time.monotonic(), time.monotonic())

    def __call__(self) -> None:
        """One step."""
        step, batches = next(self._steps)
        self._run.step(step, batches, self._metrics, self._clock)
        self._clock.ready = time.monotonic()

    def rest(self) -> None:
        """What the other arm took is no waiting."""
        self._clock.ended = self._clock.ready = time.monotonic()


def timed(step: Callable[[], None], count: int) -> float:
    """Seconds a step, over `count` of them."""
    begun = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begun) / count


def one_rank() -> None:
    """Environment of a process group of one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}


def measure(job: TrainingJob, rounds: int, count: int) -> dict[str, Any]:
    """Seconds a step of both arms by round, losses of both, and the trainer's waiting."""
    config = job.config.train
    fingerprints = encoder_fingerprints(job.config.model.backbone, job.config.model.audio)
    reader = ShardReader(job.shards, fingerprints, {job.use})
    backbone, objective = objective_of(job, reader)
    bare_objective = objective_of(job, reader)[1]
    engine = Engine(objective, config, accumulation(config, 1), job.checkpoints)
    null_text = TextEmbedding(*(part[None] for part in reader.text(NULL_CAPTION)))
    total = (rounds + 1) * count
    feeds = [Feed(reader, config).steps(0, total) for _ in range(2)]
    run = Run(job, engine, Feed(reader, config), [], backbone, objective, null_text)
    seconds: dict[str, list[float]] = {"bare": [], "trainer": []}
    with MetricsWriter(job.metrics, 0, 0) as metrics:
        arms = {"bare": Bare(job, bare_objective, feeds[0]), "trainer": Ours(run, feeds[1], metrics)}
        for number in range(rounds + 1):
            for name in ("bare", "trainer") if number % 2 else ("trainer", "bare"):
                with suppress(AttributeError):
                    arms[name].rest()  # type: ignore[union-attr]
                seconds[name].append(timed(arms[name], count))
            print(f"round {number}: " + ", ".join(f"{k} {v[-1]:.3f} s a step" for k, v in seconds.items()), flush=True)
    lines = read_metrics(job.metrics)
    losses = [line["loss"] for line in lines]
    furthest = max(abs(a - b) / b for a, b in zip(losses, arms["bare"].losses, strict=True))  # type: ignore[union-attr]
    engine.close()
    waits = [line["data_wait_share"] for line in lines[count:]]
    return {"seconds": {name: each[1:] for name, each in seconds.items()}, "loss_difference": furthest, "waits": waits}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder, or one of an earlier run")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps of a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    one_rank()
    workspace = Workspace.open(options.workspace)
    data = [f"synth.clips={options.clips}", "synth.defects_each=0", "review.clips=8"]
    overrides = [*data, "backbone.steps=1", "pretrain.steps=10000"]
    job = prepared(workspace, options.preset, overrides, workspace.root / f"train-benchmark-{time.time_ns()}")
    found = measure(job, options.rounds, options.steps)
    ratios = [ours / bare for ours, bare in zip(found["seconds"]["trainer"], found["seconds"]["bare"], strict=True)]
    result = {
        "preset": options.preset,
        "environment": describe_environment() | {"threads": 1},
        "rounds": options.rounds,
        "steps_a_round": options.steps,
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "data_wait_share_mean": statistics.fmean(found["waits"]),
        **found,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "waits"}, indent=2))
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()

"""A rank of `test_elastic.py`: engines at every ZeRO stage over a small module, run and resumed at this world size.

`python -m torch.distributed.run ... elastic.py PLAN.json`, the plan a list of runs:
{"folder", "zero_stage", "precision", "steps", "every", "out"}, and "wide" for a large module. A run goes on from the
newest checkpoint of its folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from soundstage.config.tree import TrainConfig
from soundstage.training.average import WeightAverage
from soundstage.training.engine import Engine
from soundstage.training.held_out import BEST_FILE, HeldOut

BATCH, DECAY = 4, 0.7


class Regression(nn.Module):
    """A frozen layer between two that train; 9 + 12 parameters divide into no two equal parts."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.enter, self.frozen, self.leave = nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 2, bias=False)
        self.frozen.requires_grad_(False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The loss of rows (x0, x1, y0, y1)."""
        found = self.leave(torch.tanh(self.frozen(torch.tanh(self.enter(batch[:, :2])))))
        return (found - batch[:, 2:]).square().mean()


class Wide(nn.Module):
    """One matrix large enough for ZeRO-3 to let go of it between passes: above 100,000 elements."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(2, 400), nn.Tanh(), nn.Linear(400, 400), nn.Tanh(), nn.Linear(400, 2))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The loss of rows (x0, x1, y0, y1)."""
        return (self.layers(batch[:, :2]) - batch[:, 2:]).square().mean()


class HeldRows:
    """A held-out batch, as `HeldOut` takes it."""

    clip_ids = tuple(range(BATCH))

    def to(self, device: torch.device) -> torch.Tensor:
        """Its rows, the same at every measurement."""
        return rows(10**6).to(device)


def rows(step: int) -> torch.Tensor:
    """The global batch of a step."""
    return torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(step))


def run(plan: dict[str, Any]) -> None:
    """One run of the plan; rank 0 writes losses, weights after every step, and the average."""
    config = TrainConfig(
        steps=plan["steps"], global_batch=BATCH, learning_rate=0.05, warmup_steps=2, zero_stage=plan["zero_stage"],
        precision=plan["precision"], keep_checkpoints=2, gradient_clip=0.5,
    )  # fmt: skip
    engine = Engine(Wide() if plan.get("wide") else Regression(), config, 1, Path(plan["folder"]))
    average = WeightAverage(engine, DECAY)
    scratch = Path(plan["folder"]).with_suffix(".scratch")
    held_out = HeldOut(engine, [HeldRows()], patience=100, scratch=scratch)
    start, found = 0, {"losses": [], "norms": [], "weights": [], "average": [], "held_out": []}
    if engine.resumed is not None:
        start = engine.resumed.steps
        average.load(engine.resumed.folder, start)
        held_out.resume(engine.resumed.state["held_out"], engine.resumed.folder)
        torch.distributed.barrier()
        found["best_resumed"] = load_file(scratch / BEST_FILE)
    for step in range(start, plan["steps"]):
        share = rows(step).chunk(engine.world_size)[engine.rank]
        found["losses"].append(engine.step(step, [share], lambda loss, batch: None))
        found["held_out"].append(held_out.measure(step + 1))
        found["norms"].append(engine.gradient_norm)
        average.update()
        found["weights"].append(whole(engine))
        with average.applied():
            found["average"].append(whole(engine))
        done = step + 1
        if done % plan["every"] == 0 and done < plan["steps"]:
            engine.save(
                done, {"held_out": held_out.state}, lambda folder: (average.save(folder), held_out.save(folder))
            )
    assert held_out.restore_best()
    found["best"] = whole(engine)
    if engine.rank == 0:
        torch.save(found | {"start": start}, plan["out"])
    engine._engine.destroy()


def whole(engine: Engine) -> dict[str, torch.Tensor]:
    """The trainable parameters as rank 0 sees them."""
    with engine.whole():
        return {name: each.detach().clone() for name, each in engine.trainable.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in json.loads(Path(sys.argv[1]).read_text()):
        run(each)
    torch.distributed.destroy_process_group()

"""The DeepSpeed engine in this process: one rank of one."""

from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from soundstage.config.tree import TrainConfig
from soundstage.training.engine import Engine, deepspeed_config, learning_rate


class Regression(nn.Module):
    """A loss over a frozen and a trainable layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen, self.trained = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.trained(self.frozen(batch)) - batch.sum(dim=1, keepdim=True)).square().mean()


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables by which torchrun tells a process its place."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))


def ignore(loss: torch.Tensor, batch: object) -> None:
    """See a loss and do nothing."""


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def data() -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("one_rank")
def test_steps_equal_plain_adamw_and_a_bad_loss_stops_before_the_optimizer(tmp_path: Path) -> None:
    # One test, because DeepSpeed keeps groups of the first engine: a process has one.
    config = TrainConfig(global_batch=8, micro_batch=4, learning_rate=0.05, gradient_clip=0.5, steps=10, warmup_steps=2)
    module = Regression()
    engine = Engine(module, config, accumulation=2, checkpoints=tmp_path)
    plain = Regression()
    optimizer = torch.optim.AdamW(plain.trained.parameters(), weight_decay=0.0)
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = plain(data())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        assert engine.step(step, list(data().split(4)), ignore) == pytest.approx(float(loss.detach()), rel=1e-5)
    # Two micro batches sum in another order than one batch.
    for found, wanted in zip(weights(module), weights(plain), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)

    before, moments = weights(module), [dict(state) for state in engine._optimizer.state.values()]
    steps_done = [float(state["step"]) for state in moments]
    assert engine.evaluate(data()) == pytest.approx(float(plain(data()).detach()), rel=1e-4)
    assert engine.collect({"rank": engine.rank}) == [{"rank": 0}]
    halves = list(data().split(4))
    halves[1] = halves[1] * math.nan

    def stop(loss: torch.Tensor, batch: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise ArithmeticError("not finite")

    with pytest.raises(ArithmeticError):
        engine.step(4, halves, stop)
    assert all(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))
    assert [float(state["step"]) for state in engine._optimizer.state.values()] == steps_done
    engine.close()


@pytest.mark.parametrize(("step", "expected"), [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.55), (12, 0.1), (99, 0.1)])
def test_the_learning_rate_warms_up_and_falls_along_a_cosine(step: int, expected: float) -> None:
    config = TrainConfig(steps=12, warmup_steps=4, learning_rate=1.0, min_lr_share=0.1)
    assert learning_rate(config, step) == pytest.approx(expected)


@pytest.mark.parametrize(("world_size", "accumulation", "micro"), [(1, 1, 8), (2, 1, 4), (2, 2, 2)])
def test_deepspeed_is_told_sizes_that_multiply(world_size: int, accumulation: int, micro: int) -> None:
    told = deepspeed_config(TrainConfig(global_batch=8, zero_stage=2, precision="bf16"), world_size, accumulation)
    assert told["train_micro_batch_size_per_gpu"] == micro
    assert told["train_batch_size"] == micro * accumulation * world_size
    assert told["zero_optimization"]["stage"] == 2
    assert told["torch_autocast"] == {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}

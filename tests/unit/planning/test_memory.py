"""Memory of a rank against sums by hand, and what a pace must obey."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soundstage.config.tree import TrainConfig
from soundstage.errors import ConfigError
from soundstage.planning.calibration import load_calibration
from soundstage.planning.figures import GIB
from soundstage.planning.memory import checkpoint_bytes, gpu_memory, host_memory, total
from soundstage.planning.pace import pace
from soundstage.planning.step import StepCount

CALIBRATION = load_calibration().model_copy(update={"overhead_gib": 0.0, "fragmentation": 0.0})
# 4 GiB frozen in half precision, 1 GiB that trains, 10 GiB of activations, and a batch of 1 GiB.
COUNT = StepCount(4 * GIB, GIB, GIB, 8 * GIB, 10 * GIB, 3 * 10**15, 6 * 10**15, halved=True)
BUCKET = 5e8 * 4 / GIB


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # frozen + trained + moments + gradients + batch + activations
        (0, 4 + 1 + 2 + 1 + 1 + 10),
        # a quarter of the moments, and of a float32 copy
        (1, 4 + 1 + 0.25 + 0.5 + 1 + BUCKET + 1 + 10),
        # a quarter of the gradients too
        (2, 4 + 1 + 0.25 + 0.5 + 0.25 + BUCKET + 1 + 10),
        # a quarter of all weights, and at most 1e9 of them gathered, of 2 bytes each
        (3, 1 + 0.25 + 0.25 + 0.5 + 0.25 + BUCKET + 2e9 / GIB + 1 + 10),
    ],
)
def test_a_rank_of_four_holds_what_its_zero_stage_says(stage: int, expected: float) -> None:
    train = TrainConfig(zero_stage=stage, global_batch=4, micro_batch=1)
    assert total(gpu_memory(COUNT, train, 4, CALIBRATION)) / GIB == pytest.approx(expected)


def test_averaged_weights_are_the_hosts() -> None:
    plain, averaged = (TrainConfig(ema_decay=decay, global_batch=4, micro_batch=1) for decay in (0.0, 0.999))
    assert gpu_memory(COUNT, plain, 4, CALIBRATION) == gpu_memory(COUNT, averaged, 4, CALIBRATION)
    grown = total(host_memory(COUNT, averaged, 4, CALIBRATION)) - total(host_memory(COUNT, plain, 4, CALIBRATION))
    assert grown == pytest.approx(COUNT.trainable)
    assert checkpoint_bytes(COUNT, averaged) - checkpoint_bytes(COUNT, plain) == COUNT.trainable


def test_pace_is_operations_over_what_the_gpu_reaches() -> None:
    gpu = CALIBRATION.gpu("h100")
    train = TrainConfig(global_batch=16, micro_batch=2, precision="bf16", steps=10)
    eight, two = (pace(COUNT, train, ranks, gpu, CALIBRATION) for ranks in (8, 2))
    assert eight.compute == pytest.approx(9e15 / (989e12 * CALIBRATION.achieved_training))
    assert two.compute == pytest.approx(4 * eight.compute)
    single = train.model_copy(update={"precision": "fp32"})
    assert pace(COUNT, single, 8, gpu, CALIBRATION).compute == pytest.approx(eight.compute * 989 / 67)
    third = pace(COUNT, train.model_copy(update={"zero_stage": 3}), 8, gpu, CALIBRATION)
    assert third.communication > eight.communication > pace(COUNT, train, 1, gpu, CALIBRATION).communication == 0
    assert eight.stage == 10 * eight.step  # no checkpoint and no held-out loss in so few steps
    often = train.model_copy(update={"checkpoint_every": 5, "validate_every": 2, "held_out": 7})
    saved = 2 * 3 * COUNT.trainable / (CALIBRATION.checkpoint_gb_per_sec * 1e9)
    held_out = 5 * 4 * eight.compute / 3  # four forward passes, each a third of the passes of a step
    assert pace(COUNT, often, 8, gpu, CALIBRATION).stage == pytest.approx(eight.stage + saved + held_out)


def test_one_gpu_sends_nothing_and_gathers_nothing() -> None:
    train = TrainConfig(zero_stage=3, global_batch=4, micro_batch=1)
    assert "gathered weights" not in gpu_memory(COUNT, train, 1, CALIBRATION)
    assert "gathered weights" in gpu_memory(replace(COUNT, halved=False), train, 2, CALIBRATION)


def test_calibration_that_cannot_serve_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="--gpu b200: not in the calibration, which knows a100, h100"):
        CALIBRATION.gpu("b200")
    with pytest.raises(ConfigError, match="No such file"):
        load_calibration(tmp_path / "none.yaml")
    (tmp_path / "part.yaml").write_text("gpus: {}\n")
    with pytest.raises(ConfigError, match="network_gb_per_sec"):
        load_calibration(tmp_path / "part.yaml")

"""Time of a training step and of a stage, from counted operations and the calibration's shares of what a GPU can do."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.tree import TrainConfig
from .calibration import Calibration, Gpu
from .memory import checkpoint_bytes
from .step import StepCount

_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Pace:
    """Seconds of one optimizer step, and of a whole stage by what they go to."""

    compute: float
    communication: float
    optimizer: float
    validation: float
    checkpoints: float
    steps: int

    @property
    def step(self) -> float:
        """Seconds of an optimizer step; nothing is thought to overlap."""
        return self.compute + self.communication + self.optimizer

    @property
    def stage(self) -> float:
        """Seconds of all steps, held-out losses and checkpoints."""
        return self.steps * self.step + self.validation + self.checkpoints


def pace(count: StepCount, train: TrainConfig, ranks: int, gpu: Gpu, calibration: Calibration) -> Pace:
    """The pace of a stage on `ranks` GPUs; `count` is of the configured micro batch.

    The backward pass through frozen weights makes gradients of activations and none of weights: about twice a forward
    pass with it rather than three times; what is computed again comes on top. Both are counted, not assumed.
    """
    tflops = gpu.bf16_tflops if train.precision == "bf16" else gpu.fp32_tflops
    speed = tflops * _TERA * calibration.achieved_training
    accumulation = train.global_batch // (ranks * train.micro_batch)
    compute = accumulation * (count.forward_flop + count.backward_flop) / speed
    # Every rank measures all held-out samples.
    held_out = -(-train.held_out // train.micro_batch) * count.forward_flop / speed
    saved = checkpoint_bytes(count, train) / (calibration.checkpoint_gb_per_sec * _GIGA)
    return Pace(
        compute=compute,
        communication=_communication(count, train, ranks, gpu, calibration, accumulation),
        # AdamW reads weight, gradient and two moments and writes all but the gradient.
        optimizer=7 * count.trainable / (gpu.memory_gb_per_sec * _GIGA),
        validation=train.steps // train.validate_every * held_out,
        checkpoints=train.steps // train.checkpoint_every * saved,
        steps=train.steps,
    )


def _communication(
    count: StepCount, train: TrainConfig, ranks: int, gpu: Gpu, calibration: Calibration, accumulation: int
) -> float:
    """Seconds a step: a ring moves 2 (n - 1) / n of the gradients; ZeRO-3 gathers all weights for each pass."""
    if ranks == 1:
        return 0.0
    inside = ranks <= calibration.gpus_per_node
    bandwidth = (gpu.link_gb_per_sec if inside else calibration.network_gb_per_sec) * _GIGA * calibration.achieved_link
    part = (ranks - 1) / ranks
    reduced = 2 * part * count.trainable * (accumulation if train.zero_stage >= 2 else 1)
    passes = accumulation * 2
    gathered = passes * part * (count.frozen + count.trainable) if train.zero_stage == 3 else 0.0
    return (reduced + gathered) / bandwidth

"""The one door to DeepSpeed: its configuration derived from ours, its engine, its checkpoints."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.tree import TrainConfig


def deepspeed_config(config: TrainConfig, world_size: int, accumulation: int) -> dict[str, Any]:
    """The DeepSpeed dictionary of a run; the only place that writes one."""
    micro = config.global_batch // (world_size * accumulation)
    return {
        "train_batch_size": config.global_batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.gradient_clip,
        "zero_optimization": {"stage": config.zero_stage},
        # Autocast keeps weights, and so what is saved and fingerprinted, in float32; DeepSpeed's own bf16 mode casts
        # the weights and leaves inputs as they are, which the transformers refuse.
        "torch_autocast": {"enabled": config.precision == "bf16", "dtype": "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `min_lr_share` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.min_lr_share + (1.0 - config.min_lr_share) * cosine)


class Engine:
    """A DeepSpeed engine around a module whose forward returns the loss."""

    def __init__(self, module: nn.Module, config: TrainConfig, accumulation: int) -> None:
        import deepspeed

        # On CPU the communication kernel would be compiled at the first start, for two minutes and with a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.config = config
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # torch's AdamW: DeepSpeed's fused one would be compiled first.
        optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module,
            model_parameters=trainable,
            optimizer=optimizer,
            config=deepspeed_config(config, self.world_size, accumulation),
            dist_init_required=False,
        )

    def step(self, step: int, micro_batches: list[Any], on_loss: Any) -> float:
        """One optimizer step; returns the mean loss over all ranks.

        `on_loss(loss, batch)` sees each loss before it is used; it may raise to stop before the optimizer moves.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        total = torch.zeros(())
        for batch in micro_batches:
            loss = self._engine(batch.to(self._engine.device))
            on_loss(loss.detach(), batch)
            self._engine.backward(loss)
            self._engine.step()
            total = total + loss.detach().float().cpu() / len(micro_batches)
        return self.mean(float(total))

    def mean(self, value: float) -> float:
        """Mean of `value` over ranks."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self._engine.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor) / self.world_size

    def collect(self, value: Any) -> list[Any]:
        """`value` of every rank, in their order; any object that pickles."""
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def evaluate(self, batch: Any) -> float:
        """The loss of `batch` without learning from it."""
        self._engine.eval()
        with torch.no_grad():
            loss = float(self._engine(batch.to(self._engine.device)))
        self._engine.train()
        return loss

    @property
    def gradient_norm(self) -> float:
        """Global gradient norm of the last step before clipping; NaN where DeepSpeed keeps none."""
        norm = self._engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def save(self, folder: Path, step: int, keep: int) -> None:
        """Checkpoint trainable weights and optimizer after `step` steps; the newest `keep` stay."""
        self._engine.save_checkpoint(
            str(folder), tag=f"step{step:08d}", client_state={"steps_done": step}, exclude_frozen_parameters=True
        )
        if self.rank == 0:
            for old in sorted(folder.glob("step*"))[:-keep]:
                shutil.rmtree(old)

    def resume(self, folder: Path) -> int:
        """Load the newest checkpoint; returns the steps it has done, 0 without one."""
        if not (folder / "latest").exists():
            return 0
        path, state = self._engine.load_checkpoint(str(folder), load_module_strict=False)
        return int(state["steps_done"]) if path else 0

    def gathered(self, module: nn.Module) -> Any:
        """Context in which every rank sees `module`'s parameters whole, whatever the ZeRO stage."""
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(module.parameters()), enabled=self.config.zero_stage == 3)

    def close(self) -> None:
        """Leave the process group."""
        self._engine.destroy()
        torch.distributed.destroy_process_group()

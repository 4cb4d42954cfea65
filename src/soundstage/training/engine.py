"""The one door to DeepSpeed: its configuration derived from ours, its engine, its checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.tree import TrainConfig
from ..errors import ConfigError
from .checkpoints import Checkpoint, clear_partial, flush, newest, partial_folder, publish, tag_of


def deepspeed_config(
    config: TrainConfig, world_size: int, accumulation: int, universal: bool = False
) -> dict[str, Any]:
    """The DeepSpeed dictionary of a run; the only place that writes one.

    universal: the checkpoint to load was converted to DeepSpeed's form for any number of ranks.
    """
    micro = config.global_batch // (world_size * accumulation)
    return {
        "train_batch_size": config.global_batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.gradient_clip,
        "zero_optimization": {"stage": config.zero_stage},
        # Autocast keeps weights, and so what is saved and fingerprinted, in float32; DeepSpeed's own bf16 mode casts
        # the weights and leaves inputs as they are, which the transformers refuse.
        # No module is named safe for communication in bfloat16: under ZeRO-3 its weights would be gathered rounded, and
        # be saved so.
        "torch_autocast": {
            "enabled": config.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
        "zero_allow_untested_optimizer": True,
        "checkpoint": {"load_universal": universal},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then by `schedule` down to `min_lr_share` of the peak, or constant."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    left = {"cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "linear": 1.0 - progress, "constant": 1.0}
    share = left[config.schedule]
    return config.learning_rate * (config.min_lr_share + (1.0 - config.min_lr_share) * share)


class Engine:
    """A DeepSpeed engine around a module whose forward returns the loss; it goes on from the newest checkpoint.

    Raises:
        ConfigError: the newest checkpoint was written at another ZeRO stage.
        TrainingError: the newest checkpoint was altered.
    """

    def __init__(self, module: nn.Module, config: TrainConfig, accumulation: int, checkpoints: Path) -> None:
        import deepspeed

        # On CPU the communication kernel would be compiled at the first start, for two minutes and with a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.config = config
        self._root = checkpoints
        self.resumed = self._found()
        universal = self._needs_universal()
        self.trainable = {name: each for name, each in module.named_parameters() if each.requires_grad}
        parameters = list(self.trainable.values())
        # torch's AdamW: DeepSpeed's fused one would be compiled first.
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module,
            model_parameters=parameters,
            optimizer=optimizer,
            config=deepspeed_config(config, self.world_size, accumulation, universal),
            dist_init_required=False,
        )
        self._gradient_norm = float("nan")
        if self.resumed is not None:
            self._load(self.resumed, universal)

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        device: torch.device = self._engine.device
        return device

    def step(self, step: int, micro_batches: list[Any], on_loss: Callable[[torch.Tensor, Any], None]) -> float:
        """One optimizer step; returns the mean loss over all ranks.

        `on_loss(loss, batch)` sees each loss before it is used; it may raise to stop before the optimizer moves.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        total = torch.zeros(())
        for number, batch in enumerate(micro_batches, start=1):
            loss = self._engine(batch.to(self._engine.device))
            on_loss(loss.detach(), batch)
            self._engine.backward(loss)
            if number == len(micro_batches) and self.config.zero_stage == 0:
                # Here DeepSpeed keeps no norm, and gradients are gone after the step.
                gradients = [each.grad for each in self.trainable.values() if each.grad is not None]
                self._gradient_norm = float(nn.utils.get_total_norm(gradients))
            self._engine.step()
            total = total + loss.detach().float().cpu() / len(micro_batches)
        if self.config.zero_stage > 0:
            norm = self._engine.get_global_grad_norm()
            self._gradient_norm = float("nan") if norm is None else float(norm)
        return self.mean(float(total))

    def mean(self, value: float) -> float:
        """Mean of `value` over ranks."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self._engine.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor) / self.world_size

    def any(self, value: bool) -> bool:
        """Whether any rank says so; the same answer on all."""
        return self.mean(float(value)) > 0

    def collect(self, value: Any) -> list[Any]:
        """`value` of every rank, in their order; any object that pickles."""
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def evaluate(self, batch: Any) -> float:
        """The loss of `batch` without learning from it."""
        with self.inference():
            return float(self._engine(batch.to(self._engine.device)))

    @contextmanager
    def inference(self) -> Iterator[None]:
        """The module without gradients, in its evaluating mode; all ranks enter it together."""
        self._engine.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._engine.train()

    @property
    def gradient_norm(self) -> float:
        """Global gradient norm of the last step before clipping."""
        return self._gradient_norm

    @contextmanager
    def whole(self, write: bool = False) -> Iterator[None]:
        """Every rank sees the trainable parameters whole, whatever the ZeRO stage; with `write`, rank 0's stay."""
        import deepspeed

        parameters = list(self.trainable.values())
        enabled = self.config.zero_stage == 3
        with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None, enabled=enabled):
            yield

    def save(self, steps: int, state: dict[str, Any], files: Callable[[Path], None]) -> None:
        """Checkpoint trainable weights, optimizer and `state` after `steps` steps; the newest few stay.

        `files(folder)` may write more into it; it is called on rank 0.
        """
        if self.rank == 0:
            clear_partial(self._root)
            self._root.mkdir(parents=True, exist_ok=True)
        torch.distributed.barrier()
        partial = partial_folder(self._root)
        self._engine.save_checkpoint(str(partial), tag=tag_of(steps), save_latest=False, exclude_frozen_parameters=True)
        written = partial / tag_of(steps)
        if self.rank == 0:
            files(written)
        for path in self._own_files(written):
            flush(path)
        torch.distributed.barrier()
        if self.rank == 0:
            publish(self._root, steps, self.world_size, self.config.zero_stage, state, self.config.keep_checkpoints)
        torch.distributed.barrier()

    def _own_files(self, folder: Path) -> list[Path]:
        """What this rank wrote: DeepSpeed's pieces carry the rank, the rest is rank 0's."""
        pieces = set(folder.glob("*zero_pp_rank_*"))
        own = set(folder.glob(f"*zero_pp_rank_{self.rank}_*"))
        others = {path for path in folder.rglob("*") if path.is_file()} - pieces if self.rank == 0 else set()
        return sorted(own | others)

    def _found(self) -> Checkpoint | None:
        """The newest checkpoint, which rank 0 looks for and all agree on."""
        found: list[Any] = [None]
        if self.rank == 0:
            try:
                found = [newest(self._root)]
            except Exception as error:  # told to all, so that every rank raises
                found = [error]
        torch.distributed.broadcast_object_list(found, src=0)
        if isinstance(found[0], Exception):
            raise found[0]
        checkpoint: Checkpoint | None = found[0]
        if checkpoint is not None and checkpoint.zero_stage != self.config.zero_stage:
            raise ConfigError(
                f"checkpoint {checkpoint.folder} was written at ZeRO stage {checkpoint.zero_stage}, this run is at "
                f"stage {self.config.zero_stage}, and DeepSpeed cannot read one as the other; set zero_stage back to "
                f"{checkpoint.zero_stage}, or delete {self._root} to begin anew"
            )
        return checkpoint

    def _needs_universal(self) -> bool:
        """Whether optimizer state is in pieces for another number of ranks; without ZeRO it is whole."""
        found = self.resumed
        return found is not None and found.world_size != self.world_size and found.zero_stage > 0

    def _load(self, checkpoint: Checkpoint, universal: bool) -> None:
        root = checkpoint.folder.parent
        if universal:
            root = self._root / ".universal"
            if self.rank == 0:
                shutil.rmtree(root, ignore_errors=True)
                to_universal(checkpoint.folder, root / checkpoint.tag)
            torch.distributed.barrier()
        self._engine.load_checkpoint(str(root), tag=checkpoint.tag, load_module_strict=False)
        torch.distributed.barrier()
        if universal and self.rank == 0:
            shutil.rmtree(root, ignore_errors=True)

    def close(self) -> None:
        """Leave the process group."""
        self._engine.destroy()
        torch.distributed.destroy_process_group()


def to_universal(checkpoint: Path, target: Path) -> None:
    """Convert a checkpoint to DeepSpeed's universal form, which any number of ranks can load."""
    from argparse import Namespace

    from deepspeed.checkpoint import ds_to_universal

    target.parent.mkdir(parents=True, exist_ok=True)
    ds_to_universal.main(
        Namespace(
            input_folder=str(checkpoint),
            output_folder=str(target),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )

"""The held-out loss at intervals, its best, and when training has gone on long enough without a new one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..errors import TrainingError
from ..stages.files import atomic_path
from .engine import Engine
from .feed import Batch

BEST_FILE = "best.safetensors"


class HeldOut:
    """Losses on fixed batches: the same samples, noise and levels at every measurement, on every rank.

    With `patience` p > 0 the weights of the best loss are kept in `scratch`, and `exhausted` is true after p losses in
    a row without a new best.
    """

    def __init__(self, engine: Engine, batches: list[Batch], patience: int, scratch: Path) -> None:
        self._engine, self._batches, self._patience = engine, batches, patience
        self._best_file = scratch / BEST_FILE
        self._best, self._since = math.inf, 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    def measure(self, steps: int) -> float:
        """The loss of the model as it is now, after `steps` steps.

        Raises:
            TrainingError: it is not finite, on every rank.
        """
        size = sum(len(batch.clip_ids) for batch in self._batches)
        loss = sum(self._engine.evaluate(batch) * len(batch.clip_ids) / size for batch in self._batches)
        loss = self._engine.mean(loss)
        if not math.isfinite(loss):
            raise TrainingError(
                f"held-out loss is {loss} after step {steps}; the checkpoints before it are good: lower "
                "train.learning_rate, or look at the validation clips"
            )
        if self._patience:
            self._note(loss)
        return loss

    def _note(self, loss: float) -> None:
        self._since = 0 if loss < self._best else self._since + 1
        if self._since:
            return
        self._best = loss
        with self._engine.whole():
            if self._engine.rank == 0:
                named = {name: each.detach().cpu().contiguous() for name, each in self._engine.trainable.items()}
                with atomic_path(self._best_file) as temporary:
                    save_file(named, temporary)

    @property
    def exhausted(self) -> bool:
        """Whether training should end."""
        return bool(self._patience) and self._since >= self._patience

    def restore_best(self) -> bool:
        """Give the model the weights of the best loss; false when none were kept."""
        if not self._patience or math.isinf(self._best):
            return False
        torch.distributed.barrier()
        found = load_file(self._best_file)
        with self._engine.whole(write=True), torch.no_grad():
            for name, each in self._engine.trainable.items():
                each.copy_(found[name])
        return True

    def save(self, folder: Path) -> None:
        """Write the best weights into a checkpoint's folder."""
        if self._patience and not math.isinf(self._best):
            shutil.copyfile(self._best_file, folder / BEST_FILE)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"best": None if math.isinf(self._best) else self._best, "since": self._since}

    def resume(self, state: dict[str, Any], folder: Path) -> None:
        """Go on from the `state` of a checkpoint and the best weights in its folder."""
        self._best = math.inf if state["best"] is None else float(state["best"])
        self._since = int(state["since"])
        if self._patience and not math.isinf(self._best) and self._engine.rank == 0:
            # What lies in scratch may be the best of a run that was killed after this checkpoint.
            with atomic_path(self._best_file) as temporary:
                shutil.copyfile(folder / BEST_FILE, temporary)

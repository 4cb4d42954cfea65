"""The moving average of trained weights: whole, in float32, beside the engine, so that any checkpoint carries it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .engine import Engine

AVERAGE_FILE = "average.safetensors"


class WeightAverage:
    """Exponential moving average of the engine's trainable parameters, by diffusers' `EMAModel`; off at decay 0.

    The decay after t updates is at most (1 + t) / (10 + t), so that the first steps do not linger. Every rank holds the
    same average, made from the same whole parameters.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        from diffusers.training_utils import EMAModel

        self._engine = engine
        self._names = list(engine.trainable)
        self._average: EMAModel | None = None
        if decay > 0:
            with engine.whole():
                self._average = EMAModel(self._parameters(), decay=decay, foreach=True)
            self._average.to(dtype=torch.float32)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return list(self._engine.trainable.values())

    def update(self) -> None:
        """Take the parameters as they are after an optimizer step into the average."""
        if self._average is not None:
            with self._engine.whole():
                self._average.step(self._parameters())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with averaged weights; as it was afterwards, to the bit."""
        if self._average is None:
            yield
            return
        with self._engine.whole(write=True):
            kept = [each.detach().clone() for each in self._parameters()]
            self._average.copy_to(self._parameters())
        try:
            yield
        finally:
            with self._engine.whole(write=True), torch.no_grad():
                for each, before in zip(self._parameters(), kept, strict=True):
                    each.copy_(before)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint's folder."""
        if self._average is not None:
            named = dict(zip(self._names, self._average.shadow_params, strict=True))
            save_file({name: tensor.contiguous() for name, tensor in named.items()}, folder / AVERAGE_FILE)

    def load(self, folder: Path, steps: int) -> None:
        """Take up what `save` wrote after `steps` updates."""
        if self._average is not None:
            found = load_file(folder / AVERAGE_FILE)
            for name, shadow in zip(self._names, self._average.shadow_params, strict=True):
                shadow.copy_(found[name])
            self._average.optimization_step = steps

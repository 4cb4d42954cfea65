"""Memory of one rank of a training run: weights, optimizer, what a step makes, and what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.tree import TrainConfig
from ..training.engine import deepspeed_config
from ..training.feed import STEPS_AHEAD
from .calibration import Calibration
from .figures import GIB, Figure, gib
from .step import StepCount

_SINGLE = 4
# DeepSpeed's defaults, in elements: of the buffer that gradients are reduced in, of what a ZeRO-3 rank gathers.
_REDUCE_BUCKET, _MAX_LIVE = 500_000_000, 1_000_000_000


def gpu_memory(count: StepCount, train: TrainConfig, ranks: int, calibration: Calibration) -> dict[str, Figure]:
    """Memory of a GPU by its use; their sum is what the rank needs at its peak.

    Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020, section 5, for
    weights that train in float32: AdamW's two moments are divided from stage 1 on, gradients from 2, parameters at 3,
    the frozen ones too. From stage 1 on DeepSpeed keeps a float32 copy of a rank's share of the trained weights, and a
    bucket in which gradients are reduced, whose size does not depend on theirs.
    """
    stage, trained = train.zero_stage, count.trainable
    share = trained / ranks if stage else trained
    gathered = min(count.frozen + trained, _MAX_LIVE * _weight_bytes(count)) if stage == 3 else 0
    whole = 1 / ranks if stage == 3 else 1
    parts = {
        "frozen weights": count.frozen * whole,
        "trained weights": trained * whole,
        "their copy in float32": share if stage else 0,
        "optimizer moments": 2 * share,
        "gradients": share if stage >= 2 else trained,
        "gradient bucket": _bucket(train, ranks),
        "gathered weights": gathered if ranks > 1 else 0,
        "batch": count.batch,
        # Gradients are counted in the peak of the pass that makes them, and held from the second of a step on.
        "activations": count.peak,
    }
    figures = {name: gib(size) for name, size in parts.items() if size}
    figures["allocator"] = gib(calibration.fragmentation * count.peak, "assumed")
    figures["framework"] = Figure(calibration.overhead_gib, "GiB", "assumed")
    return figures


def host_memory(count: StepCount, train: TrainConfig, ranks: int, calibration: Calibration) -> dict[str, Figure]:
    """Memory of a rank on its host: weights as they are loaded, the averaged weights, the process itself."""
    average = count.trainable if train.ema_decay else 0
    passes = train.global_batch // (ranks * train.micro_batch)
    figures = {
        "weights while loading": gib(count.frozen + count.trainable),
        "averaged weights": gib(average),
        "batches read ahead": gib(STEPS_AHEAD * passes * count.batch),
        "process": Figure(calibration.host_overhead_gib, "GiB", "assumed"),
    }
    return {name: each for name, each in figures.items() if each.value}


def total(figures: Mapping[str, Figure]) -> float:
    """Their sum in bytes."""
    return sum(each.value for each in figures.values()) * GIB


def checkpoint_bytes(count: StepCount, train: TrainConfig) -> int:
    """Of one checkpoint, all ranks together: trained weights, their float32 copy above ZeRO-0, moments, average."""
    copies = 1 + 2 + (1 if train.zero_stage else 0) + (1 if train.ema_decay else 0)
    return copies * count.trainable


def _bucket(train: TrainConfig, ranks: int) -> int:
    if train.zero_stage == 0:
        return 0
    settings: dict[str, Any] = deepspeed_config(train, ranks, 1)["zero_optimization"]
    return _SINGLE * int(settings.get("reduce_bucket_size", _REDUCE_BUCKET))


def _weight_bytes(count: StepCount) -> int:
    return 2 if count.halved else _SINGLE

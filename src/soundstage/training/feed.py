"""Which samples an optimizer step sees: a pure function of (seed, epoch, position), independent of world size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.tree import TrainConfig
from ..data.shards import NULL_CAPTION, ShardReader
from ..errors import ConfigError
from ..models.backbones.base import TextEmbedding

T = TypeVar("T")
_TAG_NOISE, _TAG_ORDER = 1, 2


@dataclass(frozen=True)
class Batch:
    """What one forward pass sees; B samples.

    latents, noise: (B, C, F, h, w). audio: by encoder, (B, T, D). sigma: (B,) in 0..1. audio_keep: (B,) 0 or 1.
    weight: (B,) by which each sample counts; None is 1 for all.
    """

    latents: torch.Tensor
    audio: dict[str, torch.Tensor]
    text: TextEmbedding
    noise: torch.Tensor
    sigma: torch.Tensor
    audio_keep: torch.Tensor
    clip_ids: tuple[str, ...]
    weight: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(
            self.latents.to(device),
            {name: heard.to(device) for name, heard in self.audio.items()},
            self.text.to(device),
            self.noise.to(device),
            self.sigma.to(device),
            self.audio_keep.to(device),
            self.clip_ids,
            None if self.weight is None else self.weight.to(device),
        )


class Feed:
    """Batches of one rank.

    Position p of the endless stream is sample `permutation(seed, p // N)[p % N]`: every epoch visits every sample once,
    and no sample is dropped because batches do not divide the epoch. With `weighting: sampling`, an epoch visits
    samples in proportion to the weights that selection gave their clips.

    Raises:
        ConfigError: the global batch does not divide into ranks and micro batches.
    """

    def __init__(self, reader: ShardReader, config: TrainConfig, rank: int = 0, world_size: int = 1) -> None:
        self._reader, self._config, self._rank = reader, config, rank
        self._per_rank = config.global_batch // world_size
        self._micro = min(config.micro_batch, self._per_rank)
        self._weights = np.array([row["weight"] for row in reader.rows], dtype=np.float64)
        self._order = lru_cache(maxsize=2)(self._drawn_order)  # a batch may span two epochs
        if config.global_batch % world_size or self._per_rank % self._micro:
            raise ConfigError(
                f"global_batch={config.global_batch} does not divide into {world_size} rank(s) and micro batches of "
                f"{config.micro_batch}; choose a multiple of {world_size * config.micro_batch}"
            )

    @property
    def accumulation(self) -> int:
        """Forward passes of one rank in an optimizer step."""
        return self._per_rank // self._micro

    def steps(self, start: int, end: int) -> Iterator[tuple[int, list[Batch]]]:
        """The micro batches of optimizer steps `start` to `end - 1`, read ahead in a thread."""
        return prefetch(((step, self._step(step)) for step in range(start, end)), depth=2)

    def _step(self, step: int) -> list[Batch]:
        first = step * self._config.global_batch + self._rank * self._per_rank
        return [
            self.batch(range(start, start + self._micro)) for start in range(first, first + self._per_rank, self._micro)
        ]

    def sample_at(self, position: int) -> int:
        """Index of the sample at a position of the endless stream."""
        epoch, place = divmod(position, len(self._reader))
        return int(self._order(epoch)[place])

    def _drawn_order(self, epoch: int) -> NDArray[np.int64]:
        if self._config.weighting == "sampling":
            return weighted_order(self._config.seed, epoch, self._weights)
        return permutation(self._config.seed, epoch, len(self._reader))

    def batch(self, positions: range) -> Batch:
        """The samples at `positions`; noise, level and dropout depend on seed and position alone."""
        latents, audio, text, noise, sigma, keep, clip_ids, weights = [], [], [], [], [], [], [], []
        counted = self._config.weighting == "loss"
        for position in positions:
            index = self.sample_at(position)
            row = self._reader.rows[index]
            clean, heard = self._reader.read(index)
            rng = np.random.default_rng([self._config.seed, _TAG_NOISE, position])
            level, drop_audio, drop_text = rng.random(3)
            sigma.append(shifted_level(level, self._config.sigma_shift))
            keep.append(float(drop_audio >= self._config.audio_dropout))
            text.append(self._reader.text(NULL_CAPTION if drop_text < self._config.text_dropout else row["caption"]))
            noise.append(torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)))
            latents.append(clean)
            audio.append(heard)
            clip_ids.append(row["clip_id"])
            weights.append(row["weight"] if counted else 1.0)
        return Batch(
            torch.stack(latents),
            {name: torch.stack([heard[name] for heard in audio]) for name in audio[0]},
            TextEmbedding(*(torch.stack(part) for part in zip(*text, strict=True))),
            torch.stack(noise),
            torch.tensor(sigma, dtype=torch.float32),
            torch.tensor(keep, dtype=torch.float32),
            tuple(clip_ids),
            torch.tensor(weights, dtype=torch.float32),
        )


def shifted_level(uniform: float, shift: float) -> float:
    """A noise level 0..1 from a uniform one; shift > 1 favours high noise (Esser et al., 2024, equation 23)."""
    return shift * uniform / (1.0 + (shift - 1.0) * uniform)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch."""
    return np.random.default_rng([seed, _TAG_ORDER, epoch]).permutation(count)


def weighted_order(seed: int, epoch: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order of an epoch of N samples with `weights` (N,): sample i comes about N w_i / sum(w) times.

    The whole part of that always, the rest by lot.

    Systematic resampling: one random offset, then equal steps along the running sum of weights (Kitagawa, "Monte Carlo
    Filter and Smoother", 1996).
    """
    rng = np.random.default_rng([seed, _TAG_ORDER, epoch])
    share = np.cumsum(weights) / np.sum(weights)
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    return rng.permutation(np.minimum(np.searchsorted(share, places, side="right"), len(weights) - 1))


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Iterate over `items`, computed up to `depth` ahead in a thread; its exception is raised here."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]

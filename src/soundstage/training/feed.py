"""What a forward pass sees: samples read ahead and stacked, with the noise, level and dropout of their positions."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from ..config.tree import TrainConfig, WindowConfig
from ..data.shards import NULL_CAPTION, ShardReader
from ..errors import ConfigError, DataError
from ..models.backbones.base import TextEmbedding
from .order import Order, Place, Stream, by_bucket

T = TypeVar("T")
_TAG_NOISE = 1
STEPS_AHEAD = 2
"""Optimizer steps whose samples are read before they are asked for."""
_READERS = min(4, os.cpu_count() or 1)  # reading, hashing, widening and drawing noise all let other threads run


@dataclass(frozen=True)
class Batch:
    """What one forward pass sees; B samples.

    latents, noise: (B, C, F, h, w). audio: by encoder, (B, T, D). sigma: (B,) in 0..1. audio_keep: (B,) 0 or 1.
    weight: (B,) by which each sample counts; None is 1 for all. window: that of their bucket; None is the model's own.
    """

    latents: torch.Tensor
    audio: dict[str, torch.Tensor]
    text: TextEmbedding
    noise: torch.Tensor
    sigma: torch.Tensor
    audio_keep: torch.Tensor
    clip_ids: tuple[str, ...]
    weight: torch.Tensor | None = None
    window: WindowConfig | None = None

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
            self.window,
        )


class Feed:
    """Batches of one rank: its part of every step of the job's `Order`.

    Step s holds the positions from s * global_batch on, rank r of R the r-th of R equal parts of them, and a micro
    batch the next micro_batch of those. `replay` reads stage one's samples, of which `replay_share` says how many.

    Raises:
        ConfigError: the global batch does not divide into ranks and micro batches; a replay share without samples to
            replay, or the other way round; samples shall be drawn by weights that are all zero.
        DataError: there are no samples.
    """

    def __init__(
        self,
        reader: ShardReader,
        config: TrainConfig,
        rank: int = 0,
        world_size: int = 1,
        replay: ShardReader | None = None,
    ) -> None:
        self._reader, self._replay, self._config, self._rank = reader, replay, config, rank
        self.accumulation = accumulation(config, world_size)
        """forward passes of one rank in an optimizer step"""
        self._per_rank = config.global_batch // world_size
        if not len(reader):
            raise DataError("the shards hold no sample to train on; see the counts of `soundstage encode`")
        if (config.replay_share > 0) != bool(replay):
            raise ConfigError(
                f"replay_share={config.replay_share} and {len(replay or ())} samples to replay do not go together: "
                "give the feed a reader of stage one's samples where the share is above 0, and none where it is 0"
            )
        weighted = config.weighting == "sampling"
        replayed = by_bucket(replay.rows, weighted) if replay else {}
        own = by_bucket(reader.rows, weighted)
        self._order = Order(config.seed, config.global_batch, own, replayed, config.replay_share)

    def steps(self, start: int, end: int) -> Iterator[tuple[int, list[Batch]]]:
        """The micro batches of optimizer steps `start` to `end - 1`, read ahead in threads."""
        with ThreadPoolExecutor(_READERS) as readers:
            reading = ((step, self._reading(step, readers)) for step in range(start, end))
            # Readers go on with the next step while this one is stacked.
            made = ((step, [_stacked(samples) for samples in parts]) for step, parts in ahead(reading, 1))
            yield from prefetch(made, depth=STEPS_AHEAD)

    def _reading(self, step: int, readers: Executor) -> list[Iterable[_Sample]]:
        """The samples of each micro batch of a step, which are being read when this returns."""
        first = step * self._config.global_batch + self._rank * self._per_rank
        micro = self._per_rank // self.accumulation
        starts = range(first, first + self._per_rank, micro)
        return [self._read(range(start, start + micro), readers) for start in starts]

    def place(self, position: int) -> Place:
        """Which sample stands at a position of the endless stream."""
        return self._order.at(position)

    def sample_at(self, position: int) -> int:
        """Index of the sample at a position of the endless stream, in the reader that it comes from."""
        return self.place(position).sample

    def batch(self, positions: range) -> Batch:
        """The samples at `positions`, which must be of one bucket, as those of a step are."""
        with ThreadPoolExecutor(1) as readers:
            return _stacked(self._read(positions, readers))

    def _read(self, positions: range, readers: Executor) -> Iterable[_Sample]:
        """The samples at `positions`; they are being read when this returns."""
        # Here and not in the readers: each of them might draw the same epoch's order at once.
        places = [self._order.at(position) for position in positions]
        return readers.map(self._sample, places, positions)

    def _sample(self, place: Place, position: int) -> _Sample:
        reader = self._replay if place.replayed else self._reader
        assert reader is not None
        return _drawn(reader, place.sample, position, self._config)


def accumulation(config: TrainConfig, world_size: int) -> int:
    """Forward passes of one rank in an optimizer step.

    Raises:
        ConfigError: the global batch does not divide into ranks and micro batches.
    """
    per_rank = config.global_batch // world_size
    micro = min(config.micro_batch, per_rank)
    if config.global_batch % world_size or per_rank % micro:
        raise ConfigError(
            f"global_batch={config.global_batch} does not divide into {world_size} rank(s) and micro batches of "
            f"{config.micro_batch}; choose a multiple of {world_size * config.micro_batch}"
        )
    return per_rank // micro


def held_out_batches(reader: ShardReader, config: TrainConfig) -> list[Batch]:
    """Fixed held-out batches: the same samples, noise and levels at every measurement, nothing dropped out.

    Up to `held_out` samples, each at most once, from every bucket in proportion; a batch is of one bucket.
    """
    config = config.model_copy(update={"audio_dropout": 0.0, "text_dropout": 0.0})
    made: list[Batch] = []
    size, position = config.micro_batch, 0
    share = min(1.0, config.held_out / max(1, len(reader)))
    for number, samples in enumerate(by_bucket(reader.rows, weighted=False).values()):
        stream = Stream(samples, config.seed, 2 * number)
        count = max(1, round(share * len(samples.indices)))
        for start in range(0, count, size):
            chosen = [stream.at(place) for place in range(start, min(start + size, count))]
            made.append(_stacked(_drawn(reader, index, position + n, config) for n, index in enumerate(chosen)))
            position += len(chosen)
    return made


@dataclass(frozen=True)
class _Sample:
    """One sample as a batch takes it."""

    latents: torch.Tensor
    audio: dict[str, torch.Tensor]
    text: tuple[torch.Tensor, torch.Tensor]
    noise: torch.Tensor
    sigma: float
    audio_keep: float
    clip_id: str
    weight: float
    window: WindowConfig


def _drawn(reader: ShardReader, index: int, position: int, config: TrainConfig) -> _Sample:
    """A sample at a position: noise, level and dropout depend on seed and position alone.

    That is the position in the whole run, so no two samples of a run share their noise, of whatever bucket they are.
    """
    row = reader.rows[index]
    latents, audio = reader.read(index)
    rng = np.random.default_rng([config.seed, _TAG_NOISE, position])
    level, drop_audio, drop_text = rng.random(3)
    return _Sample(
        latents,
        audio,
        reader.text(NULL_CAPTION if drop_text < config.text_dropout else row["caption"]),
        torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
        shifted_level(level, config.sigma_shift),
        float(drop_audio >= config.audio_dropout),
        row["clip_id"],
        row["weight"] if config.weighting == "loss" else 1.0,
        reader.windows[row["bucket"]],
    )


def _stacked(samples: Iterable[_Sample]) -> Batch:
    """Samples of one bucket as a batch."""
    found = list(samples)
    return Batch(
        torch.stack([s.latents for s in found]),
        {name: torch.stack([s.audio[name] for s in found]) for name in found[0].audio},
        TextEmbedding(*(torch.stack(part) for part in zip(*(s.text for s in found), strict=True))),
        torch.stack([s.noise for s in found]),
        torch.tensor([s.sigma for s in found], dtype=torch.float32),
        torch.tensor([s.audio_keep for s in found], dtype=torch.float32),
        tuple(s.clip_id for s in found),
        torch.tensor([s.weight for s in found], dtype=torch.float32),
        found[0].window,
    )


def shifted_level(uniform: float, shift: float) -> float:
    """A noise level 0..1 from a uniform one; shift > 1 favours high noise (Esser et al., 2024, equation 23)."""
    return shift * uniform / (1.0 + (shift - 1.0) * uniform)


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """Iterate over `items`, each handed out when `count` more have been asked for."""
    pending = deque(islice(items, count))
    for item in items:
        pending.append(item)
        yield pending.popleft()
    yield from pending


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Iterate over `items`, computed up to `depth` ahead in a thread; its exception is raised here."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]

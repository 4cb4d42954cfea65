"""Which samples a step sees, and what is drawn for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from soundstage.config.tree import TrainConfig
from soundstage.data.shards import ShardReader
from soundstage.errors import ConfigError
from soundstage.training.feed import Batch, Feed, permutation, prefetch, shifted_level

from .makers import CAPTIONS, reader_of, train_slice, write_shards

COUNT = 13  # divides by no batch


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, train_slice(), COUNT)
    return reader_of(folder, train_slice())


def config(**changes: float) -> TrainConfig:
    return TrainConfig.model_validate({"global_batch": 4, "micro_batch": 4, "seed": 3} | changes)


def clip_ids(steps: list[tuple[int, list[Batch]]]) -> list[str]:
    return [clip_id for _, batches in steps for batch in batches for clip_id in batch.clip_ids]


def equal(first: Batch, second: Batch) -> bool:
    names = ("latents", "audio", "text", "noise", "sigma", "audio_keep")
    return first.clip_ids == second.clip_ids and all(torch.equal(getattr(first, n), getattr(second, n)) for n in names)


@pytest.mark.parametrize("seed", [0, 3])
def test_every_epoch_visits_every_sample_once_in_another_order(reader: ShardReader, seed: int) -> None:
    feed = Feed(reader, config(seed=seed))
    epochs = [[feed.sample_at(epoch * COUNT + n) for n in range(COUNT)] for epoch in range(3)]
    assert all(sorted(order) == list(range(COUNT)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    assert epochs[0] != [Feed(reader, config(seed=seed + 1)).sample_at(n) for n in range(COUNT)]


def test_nothing_is_dropped_at_the_end_of_an_epoch(reader: ShardReader) -> None:
    seen = clip_ids(list(Feed(reader, config()).steps(0, COUNT)))
    assert len(seen) == 4 * COUNT
    assert set(Counter(seen).values()) == {4}
    assert len(set(seen[:COUNT])) == COUNT


@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_and_micro_batches_share_one_global_order(reader: ShardReader, world_size: int, micro: int) -> None:
    whole = list(Feed(reader, config()).steps(0, 6))
    ranks = [Feed(reader, config(micro_batch=micro), rank, world_size) for rank in range(world_size)]
    parts = [list(feed.steps(0, 6)) for feed in ranks]
    for step in range(6):
        wanted = whole[step][1][0]
        pieces = [batch for part in parts for batch in part[step][1]]
        assert len(pieces) == world_size * ranks[0].accumulation
        joined = [
            torch.cat([getattr(piece, name) for piece in pieces]) for name in ("latents", "noise", "sigma", "audio")
        ]
        for name, found in zip(("latents", "noise", "sigma", "audio"), joined, strict=True):
            assert torch.equal(found, getattr(wanted, name))


def test_a_resumed_feed_gives_the_same_batches(reader: ShardReader) -> None:
    straight = dict(Feed(reader, config()).steps(0, 9))
    for step, batches in Feed(reader, config()).steps(5, 9):
        assert equal(batches[0], straight[step][0])


def test_draws_depend_on_seed_and_position_alone(reader: ShardReader, tmp_path: Path) -> None:
    feed = Feed(reader, config())
    ahead = feed.batch(range(7, 9))
    both = feed.batch(range(6, 8))
    assert torch.equal(ahead.noise[0], both.noise[1])
    assert ahead.sigma[0] == both.sigma[1]
    # The same position over other data draws the same noise.
    write_shards(tmp_path, train_slice(), COUNT - 2)
    other = Feed(reader_of(tmp_path, train_slice()), config()).batch(range(7, 9))
    assert torch.equal(other.noise, ahead.noise)
    reseeded = Feed(reader, config(seed=4)).batch(range(7, 9))
    assert not torch.equal(reseeded.noise, ahead.noise)
    assert not torch.equal(ahead.noise[0], ahead.noise[1])


def test_a_sample_carries_the_weight_of_its_clip(tmp_path: Path) -> None:
    write_shards(tmp_path, train_slice(), 5)
    reader = reader_of(tmp_path, train_slice())
    for number, row in enumerate(reader.rows):
        row["weight"] = 0.5 + number
    feed = Feed(reader, config())
    weight = feed.batch(range(5)).to(torch.device("cpu")).weight
    assert weight is not None
    assert weight.tolist() == [0.5 + feed.sample_at(position) for position in range(5)]


def test_noise_is_standard_normal_and_levels_are_uniform(reader: ShardReader) -> None:
    batch = Feed(reader, config()).batch(range(600))
    # 2.8e6 draws: standard errors are below 1e-3; 600 levels: Kolmogorov's 99.9 % bound is 1.95 / sqrt(n).
    assert abs(batch.noise.mean()) < 0.003
    assert abs(batch.noise.std() - 1) < 0.003
    levels = np.sort(batch.sigma.numpy())
    assert np.abs(levels - (np.arange(600) + 0.5) / 600).max() < 1.95 / np.sqrt(600)


@pytest.mark.parametrize(("audio", "text"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (1.0, 1.0)])
def test_dropout_takes_its_share(reader: ShardReader, audio: float, text: float) -> None:
    batch = Feed(reader, config(audio_dropout=audio, text_dropout=text)).batch(range(600))
    null = reader.text(CAPTIONS[0])
    without_text = sum(torch.equal(embedding, null) for embedding in batch.text) / 600
    # Four standard deviations of a share of 600.
    assert float(1 - batch.audio_keep.mean()) == pytest.approx(audio, abs=4 * np.sqrt(audio * (1 - audio) / 600) + 1e-9)
    assert without_text == pytest.approx(text, abs=4 * np.sqrt(text * (1 - text) / 600) + 1e-9)


@pytest.mark.parametrize(("global_batch", "micro", "world_size"), [(6, 4, 1), (5, 4, 2), (1, 1, 2), (12, 4, 2)])
def test_batches_that_do_not_divide_are_refused(
    reader: ShardReader, global_batch: int, micro: int, world_size: int
) -> None:
    with pytest.raises(ConfigError, match=f"global_batch={global_batch}.*{world_size} rank"):
        Feed(reader, config(global_batch=global_batch, micro_batch=micro), 0, world_size)


def test_a_shift_favours_noise() -> None:
    assert [shifted_level(u, 1.0) for u in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]
    assert shifted_level(0.5, 3.0) == pytest.approx(0.75)
    assert [shifted_level(u, 3.0) for u in (0.0, 1.0)] == [0.0, 1.0]


def test_permutation_is_a_function_of_its_arguments() -> None:
    assert np.array_equal(permutation(1, 2, 50), permutation(1, 2, 50))
    assert len({tuple(permutation(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}) == 9


def test_prefetch_keeps_order_and_raises_what_was_raised() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("shard gone")

    items = prefetch(failing(), depth=2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="shard gone"):
        next(items)
    assert list(prefetch(iter([]), depth=2)) == []

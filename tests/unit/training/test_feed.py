"""Which samples a step sees, and what is drawn for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.config.tree import TrainConfig
from soundstage.data.shards import ShardReader
from soundstage.errors import ConfigError
from soundstage.training.feed import Batch, Feed, permutation, prefetch, shifted_level, weighted_order

from .makers import CAPTIONS, reader_of, train_slice, write_shards

COUNT = 13  # divides by no batch
WEIGHTS = {0: 0.2, 3: 3.7, 7: 0.0, 8: 1.6, 12: 0.45}  # by the number of a sample; the rest weigh 1


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, train_slice(), COUNT)
    return reader_of(folder, train_slice())


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """The same samples, which weigh differently."""
    folder = tmp_path_factory.mktemp("weighted")
    write_shards(folder, train_slice(), COUNT, weights=WEIGHTS)
    return reader_of(folder, train_slice())


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"global_batch": 4, "micro_batch": 4, "seed": 3} | changes)


def clip_ids(steps: list[tuple[int, list[Batch]]]) -> list[str]:
    return [clip_id for _, batches in steps for batch in batches for clip_id in batch.clip_ids]


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """Every tensor of a batch by name."""
    assert batch.weight is not None
    names = ("latents", "noise", "sigma", "audio_keep", "weight")
    found = {name: getattr(batch, name) for name in names} | {f"audio.{n}": heard for n, heard in batch.audio.items()}
    return found | {"text": batch.text.embeddings, "mask": batch.text.mask}


def equal(first: Batch, second: Batch) -> bool:
    one, other = tensors(first), tensors(second)
    same = one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    return same and first.clip_ids == second.clip_ids


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


@pytest.mark.parametrize("weighting", ["loss", "sampling"])
@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_and_micro_batches_share_one_global_order(
    weighted: ShardReader, world_size: int, micro: int, weighting: str
) -> None:
    whole = list(Feed(weighted, config(weighting=weighting)).steps(0, 6))
    part = config(weighting=weighting, micro_batch=micro)
    ranks = [Feed(weighted, part, rank, world_size) for rank in range(world_size)]
    parts = [list(feed.steps(0, 6)) for feed in ranks]
    for step in range(6):
        wanted = whole[step][1][0]
        pieces = [batch for part in parts for batch in part[step][1]]
        assert len(pieces) == world_size * ranks[0].accumulation
        for name, tensor in tensors(wanted).items():
            assert torch.equal(torch.cat([tensors(piece)[name] for piece in pieces]), tensor)


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


@pytest.mark.parametrize("weighting", ["none", "loss", "sampling"])
def test_a_sample_carries_the_weight_of_its_clip_where_the_loss_shall_be_weighted(
    weighted: ShardReader, weighting: str
) -> None:
    feed = Feed(weighted, config(weighting=weighting))
    weight = feed.batch(range(COUNT)).to(torch.device("cpu")).weight
    assert weight is not None
    stated = [WEIGHTS.get(feed.sample_at(position), 1.0) for position in range(COUNT)]
    assert weight.tolist() == pytest.approx(stated if weighting == "loss" else [1.0] * COUNT)


def test_an_epoch_visits_samples_by_their_weight(weighted: ShardReader) -> None:
    share = np.array([WEIGHTS.get(number, 1.0) for number in range(COUNT)])
    expected = COUNT * share / share.sum()
    feed = Feed(weighted, config(weighting="sampling"))
    epochs = np.array([[feed.sample_at(e * COUNT + n) for n in range(COUNT)] for e in range(400)])
    counts = np.array([np.bincount(order, minlength=COUNT) for order in epochs])
    assert (np.abs(counts - expected) < 1).all()
    assert not counts[:, 7].any(), "a sample that weighs nothing is never seen"
    # The rest above a whole number is drawn: its standard deviation is at most 0.5, here of a mean of 400.
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=4 * 0.5 / np.sqrt(400))
    assert len({tuple(order) for order in epochs}) == 400
    unweighted = Feed(weighted, config(weighting="none"))
    assert sorted(unweighted.sample_at(n) for n in range(COUNT)) == list(range(COUNT))


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
    null, _ = reader.text(CAPTIONS[0])
    without_text = sum(torch.equal(embedding, null) for embedding in batch.text.embeddings) / 600
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


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1009])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_counts_are_within_one_of_their_share_whatever_the_weights(count: int, spread: float) -> None:
    for seed in range(20):
        weights = np.exp(spread * np.random.default_rng([seed, count]).normal(size=count))
        order = weighted_order(seed, epoch=seed, weights=weights)
        assert len(order) == count
        counts = np.bincount(order, minlength=count)
        assert len(counts) == count
        assert (np.abs(counts - count * weights / weights.sum()) < 1).all()


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3])
def test_equal_weights_are_every_sample_once(weight: float) -> None:
    for count in (3, 10, 1009):
        assert sorted(weighted_order(5, 1, np.full(count, weight))) == list(range(count))


def test_a_weighted_order_is_a_function_of_its_arguments() -> None:
    weights = np.linspace(0.1, 2.0, 50)
    first = weighted_order(1, 2, weights)
    np.random.seed(0)  # a global state that must not matter
    assert np.array_equal(weighted_order(1, 2, weights), first)
    assert len({tuple(weighted_order(seed, epoch, weights)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_order_of_a_weighted_epoch_tells_nothing_of_the_order_on_disk() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 2.0, size=2000)
    order = weighted_order(1, 2, weights)
    # Of random orders of 2000 the correlation with their places has the standard deviation 1 / sqrt(2000).
    assert abs(np.corrcoef(order, np.arange(2000))[0, 1]) < 4 / np.sqrt(2000)


def test_prefetch_keeps_order_and_raises_what_was_raised() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("shard gone")

    items = prefetch(failing(), depth=2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="shard gone"):
        next(items)
    assert list(prefetch(iter([]), depth=2)) == []

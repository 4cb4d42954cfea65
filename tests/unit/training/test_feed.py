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
from soundstage.errors import ConfigError, DataError
from soundstage.training.feed import Batch, Feed, ahead, held_out_batches, prefetch, shifted_level

from .makers import CAPTIONS, reader_of, train_slice, write_shards

COUNT = 13  # divides by no batch
SHORT = train_slice("window.num_frames=4")
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


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of two lengths in turn; samples that pretrain, that finetune and that are held out."""
    folder = tmp_path_factory.mktemp("mixed")
    write_shards(folder, train_slice(), COUNT, finetune=10, validation=11, others=[SHORT])
    return folder


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


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_steps_of_several_buckets_with_replay_are_the_same_for_every_world_size(mixed: Path, world_size: int) -> None:
    readers = [reader_of(mixed, train_slice(), use) for use in ("finetune", "pretrain")]
    settings = config(replay_share=0.3, micro_batch=2)
    whole = dict(Feed(readers[0], settings, replay=readers[1]).steps(0, 12))
    # Started late, as a resumed run is.
    parts = [dict(Feed(readers[0], settings, n, world_size, readers[1]).steps(5, 12)) for n in range(world_size)]
    for step in range(5, 12):
        pieces = [batch for part in parts for batch in part[step]]
        names = tensors(pieces[0])
        for name in names:
            wanted = torch.cat([tensors(batch)[name] for batch in whole[step]])
            assert torch.equal(torch.cat([tensors(piece)[name] for piece in pieces]), wanted)
        (window,) = {piece.window for piece in pieces}
        assert window is not None
        assert window.num_frames == pieces[0].latents.shape[2]
    assert {batches[0].latents.shape[2] for batches in whole.values()} == {4, 6}


def test_replayed_samples_are_read_from_their_own_reader(mixed: Path) -> None:
    own, replay = (reader_of(mixed, train_slice(), use) for use in ("finetune", "pretrain"))
    feed = Feed(own, config(replay_share=0.3), replay=replay)
    seen = [clip_id for _, batches in feed.steps(0, 50) for clip_id in batches[0].clip_ids]
    replayed = {row["clip_id"] for row in replay.rows}
    assert Counter(clip_id in replayed for clip_id in seen)[True] == pytest.approx(0.3 * len(seen), abs=4)
    assert [clip_id in replayed for clip_id in seen] == [feed.place(n).replayed for n in range(len(seen))]
    readers = [replay if feed.place(n).replayed else own for n in range(len(seen))]
    assert seen == [reader.rows[feed.sample_at(n)]["clip_id"] for n, reader in enumerate(readers)]


def test_a_share_and_what_is_replayed_go_together(mixed: Path, reader: ShardReader) -> None:
    with pytest.raises(ConfigError, match=r"replay_share=0.2 and 0 samples"):
        Feed(reader, config(replay_share=0.2))
    with pytest.raises(ConfigError, match=rf"replay_share=0.0 and {COUNT} samples"):
        Feed(reader, config(), replay=reader)
    with pytest.raises(DataError, match="no sample to train on"):
        Feed(reader_of(mixed, train_slice(), "nothing"), config())


def test_held_out_batches_are_fixed_and_whole(mixed: Path) -> None:
    held_out = reader_of(mixed, train_slice(), "validation")
    settings = config(micro_batch=2, held_out=8, audio_dropout=1.0, text_dropout=1.0)
    first, second = held_out_batches(held_out, settings), held_out_batches(held_out, settings)
    assert all(equal(one, other) for one, other in zip(first, second, strict=True))
    seen = [clip_id for batch in first for clip_id in batch.clip_ids]
    # 8 of 11 samples, of which one bucket has 5 and the other 6: 3.6 and 4.4 of them.
    assert len(seen) == len(set(seen)) == 8
    assert [len(batch.clip_ids) for batch in first] == [2, 2, 2, 2]
    assert len({batch.window for batch in first}) == 2
    null, _ = held_out.text(CAPTIONS[0])
    assert all(batch.audio_keep.all() for batch in first)
    assert not any(torch.equal(text, null) for batch in first for text in batch.text.embeddings)
    noises = torch.cat([batch.noise[:, :, :4].flatten(1) for batch in first])
    assert len(torch.unique(noises, dim=0)) == 8


def test_all_that_is_held_out_is_taken_when_it_is_little(reader: ShardReader) -> None:
    found = held_out_batches(reader, config())
    assert [len(batch.clip_ids) for batch in found] == [4, 4, 4, 1]
    assert equal(found[0], Feed(reader, config(audio_dropout=0.0, text_dropout=0.0)).batch(range(4)))
    assert {clip_id for batch in found for clip_id in batch.clip_ids} == {row["clip_id"] for row in reader.rows}


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


def test_prefetch_keeps_order_and_raises_what_was_raised() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("shard gone")

    items = prefetch(failing(), depth=2)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="shard gone"):
        next(items)
    assert list(prefetch(iter([]), depth=2)) == []


def test_items_are_asked_for_ahead_of_their_turn() -> None:
    asked: list[int] = []
    items = ahead((asked.append(n) or n for n in range(5)), 2)  # type: ignore[func-returns-value]
    assert next(items) == 0
    assert asked == [0, 1, 2]
    assert list(items) == [1, 2, 3, 4]
    assert list(ahead(iter([7]), 2)) == [7]

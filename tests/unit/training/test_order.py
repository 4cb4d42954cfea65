"""The order of samples: its laws over random sizes, and the numbers it gives."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from soundstage.errors import ConfigError
from soundstage.training.order import Order, Place, Samples, Stream, Turns, by_bucket, permutation, weighted_order

SIZES = [(1,), (13,), (5, 1), (40, 9, 3), (7, 7, 7, 7), (100, 31, 17, 2, 1)]


def samples_of(sizes: tuple[int, ...], weighted: bool = False) -> dict[str, Samples]:
    """Samples of as many buckets as there are sizes, their indices mixed among buckets."""
    mixed = np.random.default_rng(len(sizes)).permutation(sum(sizes))
    parts = np.split(mixed, np.cumsum(sizes)[:-1])
    return {f"b{n}": Samples(part, 0.5 + part % 3 if weighted else None) for n, part in enumerate(parts)}


def places(order: Order, steps: int, batch: int) -> list[Place]:
    return [order.at(position) for position in range(steps * batch)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("batch", [1, 4, 6])
def test_every_bucket_gives_each_of_its_samples_once_an_epoch(sizes: tuple[int, ...], batch: int) -> None:
    own = samples_of(sizes)
    steps = 3 * sum(sizes)
    seen = places(Order(3, batch, own), steps, batch)
    for name, samples in own.items():
        stream, count = [place.sample for place in seen if place.bucket == name], len(samples.indices)
        epochs = [stream[start : start + count] for start in range(0, len(stream), count)]
        assert len(epochs) > 2
        assert all(sorted(epoch) == sorted(samples.indices) for epoch in epochs[:-1])
        # What the last epoch has begun repeats nothing either.
        assert len(set(epochs[-1])) == len(epochs[-1])
        assert count < 13 or len({tuple(epoch) for epoch in epochs[:-1]}) == len(epochs) - 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_is_of_one_bucket_and_buckets_have_their_share_at_every_step(
    sizes: tuple[int, ...], weighted: bool
) -> None:
    own, batch, steps = samples_of(sizes, weighted), 4, 500
    seen = places(Order(3, batch, own), steps, batch)
    by_step = [{place.bucket for place in seen[step * batch :][:batch]} for step in range(steps)]
    assert all(len(buckets) == 1 for buckets in by_step)
    whole = float(sum(samples.mass for samples in own.values()))
    for name, samples in own.items():
        share = float(samples.mass) / whole
        turns = np.cumsum([name in buckets for buckets in by_step])
        bound = 0.5 + share * max(0, len(sizes) - 2) / 2
        assert np.abs(turns - share * np.arange(1, steps + 1)).max() <= bound + 1e-9


def test_turns_are_those_of_sainte_lague() -> None:
    """Against the procedure as electoral law has it: the next seat to the largest votes / (2 seats + 1)."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        votes = [Fraction(int(n), int(rng.integers(1, 4))) for n in rng.integers(1, 60, size=int(rng.integers(1, 6)))]
        seats, turns = [0] * len(votes), Turns(votes)
        for step in range(200):
            expected = max(range(len(votes)), key=lambda n: (votes[n] / (2 * seats[n] + 1), -n))
            assert turns.at(step) == (expected, seats[expected])
            seats[expected] += 1


def test_a_late_turn_needs_no_earlier_one() -> None:
    masses = [Fraction(7), Fraction(3), Fraction(1)]
    bucket, earlier = Turns(masses).at(11 * 10**12 + 4)
    fresh, before = Turns(masses).at(4)
    # Shares of 7, 3 and 1 come again after 11 steps.
    assert (bucket, earlier) == (fresh, before + int(masses[fresh]) * 10**12)


def test_one_bucket_is_the_order_of_its_epochs() -> None:
    own = {"b": Samples(np.arange(13))}
    found = [place.sample for place in places(Order(7, 4, own), 13, 4)]
    epochs = [np.random.default_rng([7, 2, epoch]).permutation(13) for epoch in range(4)]
    assert found == np.concatenate(epochs).tolist()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.25, 0.999, 1 / 3])
def test_replayed_samples_have_their_share_of_every_stretch(share: float) -> None:
    own, replayed = {"b": Samples(np.arange(5))}, {"b": Samples(np.arange(8))}
    seen = places(Order(1, 4, own, replayed, share), 500, 4)
    flags = np.array([place.replayed for place in seen])
    # floor of a multiple of the share as a decimal: after 10 at 0.3 they are 3, where the float's multiple is below 3.
    exact = Fraction(repr(share))
    assert np.cumsum(flags).tolist() == [int(n * exact) for n in range(1, len(seen) + 1)]
    for replays, count in ((True, 8), (False, 5)):
        stream = [place.sample for place in seen if place.replayed == replays]
        whole = [stream[start : start + count] for start in range(0, len(stream) - count + 1, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in whole), "no stream skips or repeats"


def test_buckets_of_either_kind_alone_keep_the_replay_share() -> None:
    own, replayed = samples_of((20, 5)), {"b1": Samples(np.arange(30)), "z": Samples(np.arange(30, 40))}
    batch, steps, share = 8, 2000, 0.3
    seen = places(Order(1, batch, own, replayed, share), steps, batch)
    found = Counter((place.bucket, place.replayed) for place in seen)
    expected = {("b0", False): 0.7 * 0.8, ("b1", False): 0.7 * 0.2, ("b1", True): 0.3 * 0.75, ("z", True): 0.3 * 0.25}
    assert found.keys() == expected.keys()
    # Turns of three buckets are within one step of their share, and within them one sample.
    assert all(abs(found[key] - expected[key] * len(seen)) <= batch + 1 for key in expected)


def test_no_share_replays_nothing() -> None:
    own = samples_of((9, 4))
    without = places(Order(1, 4, own), 40, 4)
    assert places(Order(1, 4, own, {"z": Samples(np.arange(3))}, 0.0), 40, 4) == without


def test_streams_of_one_size_have_orders_of_their_own() -> None:
    orders = [[Stream(Samples(np.arange(50)), 3, number).at(n) for n in range(50)] for number in range(4)]
    assert len({tuple(order) for order in orders}) == 4


def rows_of(*weights: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"bucket": bucket, "weight": weight} for bucket, weight in weights]


def test_rows_are_parted_by_bucket() -> None:
    found = by_bucket(rows_of(("b", 1.0), ("a", 2.0), ("b", 0.0)), weighted=True)
    assert list(found) == ["a", "b"]
    assert found["b"].indices.tolist() == [0, 2]
    assert found["b"].weights is not None
    assert found["b"].weights.tolist() == [1.0, 0.0]


def test_weights_that_draw_nothing_are_refused() -> None:
    rows = rows_of(("12x32x32", 1.0), ("24x32x32", 0.0), ("24x32x32", 0.0))
    with pytest.raises(ConfigError, match="all 2 of bucket 24x32x32 weigh 0; set weighting to"):
        by_bucket(rows, weighted=True)
    assert list(by_bucket(rows, weighted=False)) == ["12x32x32", "24x32x32"]


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

"""Which sample stands at which position of training: a pure function of (seed, epoch, position).

Positions number the samples of a run, `global_batch` to an optimizer step, whatever the ranks and micro batches. All
samples of a step are of one bucket, so that they stack. Each bucket has a stream without end, which goes on where its
last step left it: nothing is dropped or seen twice because an epoch does not divide into batches, ranks or shards.

With one bucket and no replay, position p is sample `permutation(seed, p // N)[p % N]` of the N samples.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

_TAG_ORDER = 2


@dataclass(frozen=True)
class Samples:
    """Samples of one bucket: their indices in the reader (N,), and by which weights (N,) they are drawn, if by any."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    @property
    def mass(self) -> Fraction:
        """By which the bucket counts against others: its samples, or the sum of their weights."""
        # fsum rounds once, so every machine finds the same sum.
        return Fraction(len(self.indices)) if self.weights is None else Fraction(math.fsum(self.weights))


@dataclass(frozen=True)
class Place:
    """What a position holds."""

    bucket: str
    sample: int
    """index in the reader that it comes from"""
    replayed: bool
    """whether that is the reader of replayed samples"""


def by_bucket(rows: Sequence[Mapping[str, Any]], weighted: bool) -> dict[str, Samples]:
    """The rows of a reader by the name of their bucket, in the order of names.

    Raises:
        ConfigError: samples shall be drawn by weight, and all of a bucket weigh nothing.
    """
    found: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(row["bucket"], []).append(index)
    made = {}
    for name in sorted(found):
        weights = np.array([rows[index]["weight"] for index in found[name]], np.float64) if weighted else None
        made[name] = Samples(np.array(found[name], np.int64), weights)
        if made[name].mass <= 0:
            raise ConfigError(
                f"weighting=sampling draws samples by their weight, and all {len(found[name])} of bucket {name} weigh "
                "0; set weighting to `none` or `loss`, or select.weighting=none and select anew"
            )
    return made


class Order:
    """What every position of a run holds.

    A bucket's turns come by `Turns` in proportion to its samples; drawn by weight, to the sum of their weights. With a
    replay share r, the q-th sample of a bucket's steps is a replayed one where floor((q + 1) s) > floor(q s), and own
    and replayed samples each run through their own epochs. s is r with one bucket. With several, replayed samples have
    r of the whole, divided among buckets as they are, and own ones the rest, so s is what a bucket thus holds of both.
    """

    def __init__(
        self,
        seed: int,
        global_batch: int,
        own: Mapping[str, Samples],
        replayed: Mapping[str, Samples] | None = None,
        replay_share: float = 0.0,
    ) -> None:
        # As written in the configuration: 0.3 is three tenths, which no float is.
        share = Fraction(repr(replay_share))
        replayed = replayed if replayed and share else {}
        self._global_batch = global_batch
        self._names = sorted({*own, *replayed})
        fresh, again = _shares(own, self._names), _shares(replayed, self._names)
        masses = [(1 - share) * f + share * a for f, a in zip(fresh, again, strict=True)]
        self._turn = lru_cache(maxsize=8)(Turns(masses).at)
        self._replayed = [share * a / mass for a, mass in zip(again, masses, strict=True)]
        # Even numbers for own samples, odd ones for replayed: no two streams draw alike.
        self._own = {name: Stream(own[name], seed, 2 * self._names.index(name)) for name in own}
        self._again = {name: Stream(s, seed, 2 * self._names.index(name) + 1) for name, s in replayed.items()}

    def at(self, position: int) -> Place:
        """What stands at `position`, 0 being the first of the run."""
        step, place = divmod(position, self._global_batch)
        bucket, earlier = self._turn(step)
        name, share = self._names[bucket], self._replayed[bucket]
        position = earlier * self._global_batch + place
        before = math.floor(position * share)
        if math.floor((position + 1) * share) > before:
            return Place(name, self._again[name].at(before), replayed=True)
        return Place(name, self._own[name].at(position - before), replayed=False)


def _shares(samples: Mapping[str, Samples], names: Sequence[str]) -> list[Fraction]:
    """What each bucket has of the whole, 0..1; a bucket without samples has nothing."""
    masses = [samples[name].mass if name in samples else Fraction(0) for name in names]
    whole = sum(masses, Fraction(0))
    return [mass / whole if whole else mass for mass in masses]


class Turns:
    """Steps dealt out to buckets as Sainte-Lague deals out seats: in proportion to `masses`, at every step.

    The j-th step of bucket b, from 0, has the quotient (2 j + 1) / mass_b; steps take the quotients as they rise, and
    of equal ones that of the earlier bucket. After s steps bucket b of B has had s * share_b of them to within
    1/2 + share_b (B - 2) / 2: the quotient reached rounds each mass's multiple by at most 1/2.
    """

    def __init__(self, masses: Sequence[Fraction]) -> None:
        denominator = math.lcm(*(mass.denominator for mass in masses))
        self._masses = [int(mass * denominator) for mass in masses]

    def at(self, step: int) -> tuple[int, int]:
        """The bucket whose turn it is at `step`, and how many turns it has had before."""
        for bucket in range(len(self._masses)):
            earlier = bisect_left(range(step), step, key=partial(self._step_of, bucket))
            if self._step_of(bucket, earlier) == step:
                return bucket, earlier
        raise AssertionError(f"no bucket has step {step}")

    def _step_of(self, bucket: int, turn: int) -> int:
        """At which step a bucket has its `turn`, from 0: the number of smaller quotients."""
        mass, steps = self._masses[bucket], 0
        for other, others_mass in enumerate(self._masses):
            # Turns i of the other with (2 i + 1) * mass below this, or equal to it when the other goes first.
            limit = (2 * turn + 1) * others_mass - (other >= bucket)
            steps += (limit // mass + 1) // 2
        return steps


class Stream:
    """Samples of a bucket without end, epoch after epoch: each epoch of N positions is an order of its own."""

    def __init__(self, samples: Samples, seed: int, number: int) -> None:
        self._samples, self._seed, self._number = samples, seed, number
        self._order = lru_cache(maxsize=2)(self._drawn)  # a step may span two epochs

    def at(self, position: int) -> int:
        """Index in the reader of what stands at `position`."""
        epoch, place = divmod(position, len(self._samples.indices))
        return int(self._samples.indices[self._order(epoch)[place]])

    def _drawn(self, epoch: int) -> NDArray[np.int64]:
        if self._samples.weights is not None:
            return weighted_order(self._seed, epoch, self._samples.weights, self._number)
        return permutation(self._seed, epoch, len(self._samples.indices), self._number)


def permutation(seed: int, epoch: int, count: int, stream: int = 0) -> NDArray[np.int64]:
    """The order of an epoch of a stream: every one of `count` samples once."""
    return _generator(seed, epoch, stream).permutation(count)


def weighted_order(seed: int, epoch: int, weights: NDArray[np.float64], stream: int = 0) -> NDArray[np.int64]:
    """The order of an epoch of N samples with `weights` (N,): sample i comes about N w_i / sum(w) times.

    The whole part of that always, the rest by lot.

    Systematic resampling: one random offset, then equal steps along the running sum of weights (Kitagawa, "Monte Carlo
    Filter and Smoother", 1996).
    """
    rng = _generator(seed, epoch, stream)
    share = np.cumsum(weights) / np.sum(weights)
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    return rng.permutation(np.minimum(np.searchsorted(share, places, side="right"), len(weights) - 1))


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, _TAG_ORDER, epoch, *([stream] if stream else [])])

"""Which files a world has: classes, planted kinds and their numbers, and the names behind which they hide."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ..config.tree import Defect, SynthConfig
from ..errors import ConfigError
from .scene import CATALOGUE, WorldClass

DEFECTS: tuple[str, ...] = get_args(Defect)
COPIES = ("duplicate", "near_duplicate")
NEAR_COPIES = ("worse", "smaller", "start_cut", "end_cut")

MIXES: dict[str, dict[str, float]] = {
    "mild": {"silent": 0.005, "still": 0.03, "cut": 0.03, "too_short": 0.004, "duplicate": 0.002},
    "harsh": {"swapped": 0.20, "shifted": 0.15, "silent": 0.03, "still": 0.03, "cut": 0.03, "near_duplicate": 0.03},
}
"""Shares of all files, copies included."""

_MIN_LATE_SEC, _MAX_LATE_SEC = 0.2, 1.0
# First numbers of the seeds: one stream a purpose, so that a further planted kind changes no other file's look.
_ORDER_STREAM, _CLEAN_STREAM, UNSEEN_STREAM, _DEFECT_STREAM, _LATE_STREAM, _COPY_STREAM = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Item:
    """One file of the world, as the plan states it."""

    uri: str
    label: str
    defect: str
    seed: tuple[int, ...]
    late_sec: float = 0.0
    original: str = ""
    """for a copy: the clean file it is made from"""
    variant: str = ""
    """for a near-duplicate: one of NEAR_COPIES"""


def world_classes(config: SynthConfig) -> tuple[WorldClass, ...]:
    """The classes of the catalogue that the configuration names or counts.

    Raises:
        ConfigError: an unknown name, one that stands twice, or more classes than the catalogue has.
    """
    known = {kind.label: kind for kind in CATALOGUE}
    if not config.class_names:
        if config.classes > len(CATALOGUE):
            raise ConfigError(f"synth.classes is {config.classes}, the catalogue has {len(CATALOGUE)}; take fewer")
        return CATALOGUE[: config.classes]
    for name in config.class_names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"classes: {', '.join(known)}"
            raise ConfigError(f"synth.class_names: no class is called {name!r}; {hint}")
        if config.class_names.count(name) > 1:
            raise ConfigError(f"synth.class_names: {name!r} stands there twice; name every class once")
    return tuple(known[name] for name in config.class_names)


def planted_counts(config: SynthConfig) -> dict[str, int]:
    """How many files of every kind are planted, in the order of DEFECTS.

    A mix states shares of all files: with `clips` clean ones and shares that sum to s there are clips / (1 - s).
    """
    counts = dict.fromkeys(DEFECTS, config.defects_each)
    if config.mix != "none":
        shares = MIXES[config.mix]
        total = config.clips / (1.0 - sum(shares.values()))
        counts = {kind: round(total * shares.get(kind, 0.0)) for kind in DEFECTS}
    return counts | {str(kind): number for kind, number in config.planted.items()}


def plan_world(config: SynthConfig) -> Iterator[Item]:
    """All files in the order of their names; names tell neither the defect nor the original of a copy.

    What a file looks and sounds like depends on the seed, its kind and its number among its kind, and on nothing else.

    Raises:
        ConfigError: as `world_classes`.
    """
    labels = [kind.label for kind in world_classes(config)]
    counts = planted_counts(config)
    wanted = [("none", number) for number in range(config.clips)]
    wanted += [(kind, number) for kind in DEFECTS for number in range(counts[kind])]
    order = [int(index) for index in np.random.default_rng([config.seed, _ORDER_STREAM]).permutation(len(wanted))]
    names = {wanted[index]: f"videos/{position:05d}.mp4" for position, index in enumerate(order)}
    for index in order:
        kind, number = wanted[index]
        uri = names[kind, number]
        if kind == "none":
            yield Item(uri, labels[number % len(labels)], kind, (config.seed, _CLEAN_STREAM, number))
        else:
            yield _planted(config, labels, names, kind, number)


def _planted(config: SynthConfig, labels: list[str], names: dict[tuple[str, int], str], kind: str, number: int) -> Item:
    uri, code = names[kind, number], DEFECTS.index(kind)
    seed = (config.seed, _DEFECT_STREAM, code, number)
    if kind in COPIES:
        # The two kinds take from opposite ends: while there are clean files enough, no two copies share an original.
        clean = np.random.default_rng([config.seed, _COPY_STREAM]).permutation(config.clips)
        position = number % config.clips
        source = int(clean[position if kind == "duplicate" else -1 - position])
        variant = NEAR_COPIES[number % len(NEAR_COPIES)] if kind == "near_duplicate" else ""
        return Item(uri, labels[source % len(labels)], kind, seed, original=names["none", source], variant=variant)
    late_sec = 0.0
    if kind == "shifted":
        rng = np.random.default_rng([config.seed, _LATE_STREAM, number])
        late_sec = float(rng.choice([-1, 1]) * rng.uniform(_MIN_LATE_SEC, _MAX_LATE_SEC))
    return Item(uri, labels[(code + number) % len(labels)], kind, seed, late_sec)

